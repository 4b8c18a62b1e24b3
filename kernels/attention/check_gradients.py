"""Are dQ, dK and dV the gradients of attention? Being written."""

from __future__ import annotations

from typing import Any

from ..arrays import Array, Arrays, Output
from ..case import Check


def check_gradients(arrays: Arrays, inputs: tuple[Array, ...], output: Output, **options: Any) -> Check:
    """Compare (dQ, dK, dV) with float64."""
    raise NotImplementedError("the check of attention's gradients is being written")
