"""Attention: softmax(Q K' / sqrt(d)) V for each head, its gradients as in transformer training, and decoding over a long cache."""

from .case import AttentionCase, DecodeCase

__all__ = ["AttentionCase", "DecodeCase"]
