"""Memory operations: how fast a chip reads and writes what does not fit its caches."""

from .case import CopyCase, ReadCase, ScaleCase, TriadCase

__all__ = ["CopyCase", "ReadCase", "ScaleCase", "TriadCase"]
