"""Softmax of rows."""

from .case import SoftmaxCase

__all__ = ["SoftmaxCase"]
