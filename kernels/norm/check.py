"""Is y the normalised x, and are dx, dw and db its gradients?

Every element against float64. How far each may be, with U the unit roundoff of the dtype, u that of the arithmetic (fp32), s the
relative error of a sum of ``width`` numbers of one sign (``sum_error``) and c that of a dot product (``accumulation_error``):

* the mean is off by (s + 2 u) mean|x| at most, and the difference x - mean by 2 u |x| more;
* the mean square by the factor s, times mean(x^2) / mean(d^2) where it is taken as a difference of squares; its root by half of that and
  4 u for the addition, the root itself (2 ulp in CUDA's rsqrtf: CUDA C++ Programming Guide, table of single-precision functions) and
  the product. Together the relative error r of 1 / sqrt(mean(d^2) + eps);
* y = n w + b: r and 2 u of |n w|, 2 U for a normalised value and a product that are rounded to the dtype on the way (as
  ``(x * rstd).to(dtype) * w`` does, the common definition in eager code), and U of |y|;
* dx: r and 4 u of each of its three terms, c for the two means, the errors of n, and U of |dx|;
* dw: c |dy| |n| (2-norms over rows), the errors of n, each of random sign against dy, so six deviations of them by Hoeffding's
  inequality, and U of |dw|; db: the same without n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..arrays import Array, Arrays
from ..case import UNIT_ROUNDOFF, Check
from ..memory.checking import DEVIATIONS, UNDERFLOW, arithmetic_dtype, arithmetic_roundoff, blocks, farthest, larger, sum_error
from ..rounding import accumulation_error


@dataclass(frozen=True)
class _Normalised:
    """Some rows in float64: n, how far each element of it may be, the factor 1 / sqrt(...) of each row and its relative error."""

    values: Array
    error: Array
    root: Array
    root_error: Array


def _normalise(xp: Any, x: Array, centred: bool, epsilon: float, dtype: str) -> _Normalised:
    u, width = arithmetic_roundoff(dtype), x.shape[1]
    s = sum_error(dtype, width)
    sizes = xp.abs(x)
    if centred:
        d = x - x.mean(axis=1, keepdims=True)
        d_error = (s + 2 * u) * sizes.mean(axis=1, keepdims=True) + 2 * u * sizes
    else:
        d, d_error = x, u * sizes
    square = (d * d).mean(axis=1, keepdims=True) + epsilon
    root = 1 / xp.sqrt(square)
    root_error = 0.5 * s * (x * x).mean(axis=1, keepdims=True) / square + 4 * u
    values = d * root
    return _Normalised(values, xp.abs(values) * (root_error + 2 * u) + root * d_error, root, root_error)


def check_forward(
    arrays: Arrays, inputs: tuple[Array, ...], outputs: tuple[Array, ...], *, centred: bool, epsilon: float, dtype: str
) -> Check:
    """Compare y with float64. The error is in units of the limit, so the limit is 1."""
    xp, roundoff, u = arrays.xp, UNIT_ROUNDOFF[dtype], arithmetic_roundoff(dtype)
    x, w, *b = inputs
    weight, bias = arrays.wide(w), arrays.wide(b[0]) if b else 0.0
    worst = 0.0
    for part in blocks(*x.shape):
        normal = _normalise(xp, arrays.wide(x[part]), centred, epsilon, dtype)
        product = normal.values * weight
        reference = product + bias
        limit = normal.error * xp.abs(weight) + 2 * roundoff * xp.abs(product) + (roundoff + u) * xp.abs(reference) + 2 * UNDERFLOW[dtype]
        worst = larger(worst, farthest(xp, arrays.wide(outputs[0][part]), reference, limit))
    return Check(error=worst, limit=1.0)


def check_backward(
    arrays: Arrays, inputs: tuple[Array, ...], outputs: tuple[Array, ...], *, centred: bool, epsilon: float, dtype: str
) -> Check:
    """Compare dx, dw (and db) with float64. The error is in units of the limit, so the limit is 1."""
    xp, roundoff, u = arrays.xp, UNIT_ROUNDOFF[dtype], arithmetic_roundoff(dtype)
    x, w, dy = inputs
    rows, width = x.shape
    c = accumulation_error(arithmetic_dtype(dtype), width)
    weight = arrays.wide(w)
    worst, dw, db, noise, n_squares, dy_squares = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for part in blocks(rows, width):
        upstream = arrays.wide(dy[part])
        normal = _normalise(xp, arrays.wide(x[part]), centred, epsilon, dtype)
        n, n_error = normal.values, normal.error
        g = upstream * weight
        g_norm, n_norm = xp.sqrt((g * g).sum(axis=1, keepdims=True)), xp.sqrt((n * n).sum(axis=1, keepdims=True))
        shift = g.mean(axis=1, keepdims=True) if centred else 0.0 * g_norm
        along = (g * n).mean(axis=1, keepdims=True)
        reference = normal.root * (g - shift - n * along)

        shift_error = c * g_norm / width**0.5 if centred else 0.0
        along_error = c * g_norm * n_norm / width + (xp.abs(g) * n_error).mean(axis=1, keepdims=True)
        terms = xp.abs(g) + xp.abs(shift) + xp.abs(n * along)
        within = (normal.root_error + 4 * u) * terms + shift_error + xp.abs(n) * along_error + n_error * xp.abs(along)
        limit = roundoff * xp.abs(reference) + normal.root * within + 2 * UNDERFLOW[dtype]
        worst = larger(worst, farthest(xp, arrays.wide(outputs[0][part]), reference, limit))

        dw, db = dw + (upstream * n).sum(axis=0), db + upstream.sum(axis=0)
        noise = noise + ((upstream * n_error) ** 2).sum(axis=0)
        n_squares, dy_squares = n_squares + (n * n).sum(axis=0), dy_squares + (upstream * upstream).sum(axis=0)
    c = accumulation_error(arithmetic_dtype(dtype), rows)
    limit = c * xp.sqrt(n_squares * dy_squares) + DEVIATIONS * xp.sqrt(noise) + (roundoff + u) * xp.abs(dw) + 2 * UNDERFLOW[dtype]
    worst = larger(worst, farthest(xp, arrays.wide(outputs[1]), dw, limit))
    if centred:
        limit = c * xp.sqrt(rows * dy_squares) + (roundoff + u) * xp.abs(db) + 2 * UNDERFLOW[dtype]
        worst = larger(worst, farthest(xp, arrays.wide(outputs[2]), db, limit))
    return Check(error=worst, limit=1.0)
