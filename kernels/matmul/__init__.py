"""Matrix multiplication C = A B: the operation that decides how fast a transformer trains."""

from .case import MatmulCase

__all__ = ["MatmulCase"]
