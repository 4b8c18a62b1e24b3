"""Attention: softmax(Q K' / sqrt(d)) V for each head, as in transformer training."""

from .case import AttentionCase

__all__ = ["AttentionCase"]
