"""Normalisation of rows: RMSNorm and LayerNorm, forward and backward."""

from .case import LayerNormCase, RmsNormCase

__all__ = ["LayerNormCase", "RmsNormCase"]
