"""The optimiser's step: AdamW over all parameters, the last memory-bound operation of a training step."""

from .case import AdamCase

__all__ = ["AdamCase"]
