"""Gather: the rows of an embedding table that a batch of tokens asks for."""

from .case import GatherCase

__all__ = ["GatherCase"]
