"""Overheads: what a kernel costs that does next to nothing, and what crosses the link between host and chip."""

from .case import LaunchCase, TransferCase

__all__ = ["LaunchCase", "TransferCase"]
