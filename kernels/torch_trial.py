"""Asking torch whether it takes a case, where only a call tells. Run on an H200.

A library says no in words of its own; what is a no and not a fault is known by them. The call that asks must not write into the buffer
that the check will look at: it would find there what the measured call forgot.
"""

from __future__ import annotations

import warnings

from .kernel import Call, Refused

BLAS_REFUSES = ("CUBLAS_STATUS_NOT_SUPPORTED", "HIPBLAS_STATUS_NOT_SUPPORTED")
"""Type, layout, scales or sizes that the BLAS has no kernel for on this chip."""
SDPA_REFUSES = "No available kernel"
"""What scaled_dot_product_attention raises when the backend it must use does not take the arguments; the reasons are warnings."""


def ask(call: Call, otherwise: str = "") -> None:
    """Call once. Raises Refused with the reason where the library does not take the case; ``otherwise``: what would work."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            call()
        except RuntimeError as error:
            words = str(error)
            if SDPA_REFUSES in words:
                raise Refused(" ".join(["this torch does not take the case:", *_reasons(heard)])) from error
            sign = next((sign for sign in BLAS_REFUSES if sign in words), None)
            if sign is None:
                raise
            raise Refused("; ".join(filter(None, (f"the BLAS has no such product on this chip ({sign})", otherwise)))) from error


def _reasons(heard: list[warnings.WarningMessage]) -> list[str]:
    """Without headings, and without the backends that were switched off on purpose."""
    words = [str(warning.message).partition(" (Triggered internally")[0] for warning in heard]
    return [word for word in words if not word.endswith("because:") and "runtime disabled" not in word]
