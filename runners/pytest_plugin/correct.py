"""Is the result right? Asked before anything is timed: a fast wrong answer is no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .options import Options


class WrongResult(AssertionError):
    """The benchmarked function's result is not what the test says it must be. ``error``: how far off, where there is a reference."""

    def __init__(self, message: str, error: float | None = None) -> None:
        super().__init__(message)
        self.error = error


@dataclass(frozen=True)
class Checked:
    """How far the result is from the reference, and how far it may be; None without one."""

    error: float | None = None
    limit: float | None = None


def checked(options: Options, result: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Checked:
    """Hold the result of a call with these arguments against what the test says it must be. Raises WrongResult."""
    __tracebackhide__ = True
    if options.check is not None:
        try:
            said = options.check(result)
        except AssertionError as error:
            raise WrongResult(f"the result is wrong: {' '.join(str(error).split()) or 'check failed'}; not timed") from error
        if said is not None and not said:
            raise WrongResult("the result is wrong: check returned False; not timed")
    if options.reference is None or options.tolerance is None:
        return Checked()
    reference = options.reference(*args, **kwargs) if callable(options.reference) else options.reference
    found = relative_error(result, reference)
    # Not <=: a NaN is a wrong result.
    if not found <= options.tolerance:
        raise WrongResult(f"the result is wrong: its error is {found:.3g}, above the tolerance {options.tolerance:.3g}; not timed", found)
    return Checked(found, options.tolerance)


def relative_error(result: Any, reference: Any) -> float:
    """The largest difference over the reference's largest magnitude (the normwise relative error in the maximum norm: Higham, Accuracy
    and Stability of Numerical Algorithms, section 6.2): elements that cancel to near nothing do not decide. In float64.

    Infinite where the result holds a NaN or an infinity. Raises WrongResult for another shape.

    >>> relative_error([1.0, 2.0, -4.1], [1.0, 2.0, -4.0]) < 0.0251
    True
    >>> relative_error([1.0, float("nan")], [1.0, 2.0])
    inf
    """
    __tracebackhide__ = True
    import numpy as np

    if isinstance(reference, tuple):
        if not isinstance(result, tuple) or len(result) != len(reference):
            raise WrongResult(f"the result is wrong: the reference is a tuple of {len(reference)}, the result is not; not timed")
        return max((relative_error(one, other) for one, other in zip(result, reference, strict=True)), default=0.0)
    got, want = on_host(result), on_host(reference)
    if got.shape != want.shape:
        raise WrongResult(f"the result is wrong: its shape is {got.shape}, that of the reference {want.shape}; not timed")
    if not got.size:
        return 0.0
    difference, scale = float(np.max(np.abs(got - want))), float(np.max(np.abs(want)))
    if not np.isfinite(difference):
        return float("inf")
    return difference / scale if scale else difference


def on_host(array: Any) -> Any:
    """A torch, CuPy, JAX or NumPy array, a list or a number, as NumPy's float64; complex numbers keep both parts."""
    import numpy as np

    if hasattr(array, "detach"):
        array = array.detach().cpu()
        # NumPy knows neither bf16 nor fp8.
        array = array.numpy() if array.is_complex() else array.double().numpy()
    elif hasattr(array, "__cuda_array_interface__") and hasattr(array, "get"):
        array = array.get()
    array = np.asarray(array)
    return array if np.iscomplexobj(array) else array.astype(np.float64)
