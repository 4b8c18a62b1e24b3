"""Activations between the products of a transformer's feed-forward block: GELU and SwiGLU."""

from .case import GeluCase, SwigluCase

__all__ = ["GeluCase", "SwigluCase"]
