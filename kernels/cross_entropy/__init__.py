"""Cross-entropy of logits over a vocabulary, the last operation of a language model's forward pass and the first of its backward."""

from .case import CrossEntropyCase

__all__ = ["CrossEntropyCase"]
