"""How long a pipeline takes, and how much of that is bubble: closed forms over arrays of plans, checked against the simulation.

Everywhere p is the number of stages, m the microbatches, v the chunks one stage holds (interleave); F, B and W are the forward pass, the
backward pass for the inputs and that for the weights of one microbatch through one stage (all v chunks), in seconds.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from chipassay.results.errors import UnknownName

from ..plan import Schedule

Array = npt.NDArray[Any]


def pipeline_s(
    schedule: str,
    forward_s: Array,
    backward_input_s: Array,
    backward_weight_s: Array,
    all_forward_s: Array,
    all_backward_s: Array,
    send_s: Array,
    pp: Array,
    microbatches: Array,
    interleave: Array,
    overlap: bool = True,
) -> Array:
    """Seconds from the first forward to the last backward pass of one step; all arguments broadcast.

    ``forward_s``, ``backward_input_s``, ``backward_weight_s``: one microbatch through the slowest stage, all its chunks; ``all_forward_s``,
    ``all_backward_s``: the sums over all stages (backward: inputs and weights); ``send_s``: one message between neighbouring chunks.
    With ``overlap`` a sender goes on while its message travels and only the receiver waits; without, the sender waits too.
    Raises UnknownName for a schedule that is none.

    - ``gpipe``: ``(m - 1) max F + sum F``, the same for the backward passes (Huang et al. 2019, arXiv 1811.06965, section 2.3).
    - ``1f1b``: ``(m - 1) max (F + B + W) + sum (F + B + W)`` (Narayanan et al. 2021, arXiv 2104.04473, section 2.2.1, for equal stages;
      the fill and drain of unequal ones pass through each stage once).
    - ``interleaved``: ``m max + (sum - max) / v`` (the same, section 2.2.2: the bubble shrinks by v).
    - ``zero-bubble``: ZB-H1, bubble ``(p - 1)(F + B - W)`` (Qi et al. 2024, arXiv 2401.10241, table 1).
    - ``dualpipe``: bubble ``(p / 2 - 1)(F + 2 B - W)`` where a forward beside a backward takes as long as both one after the other
      (DeepSeek-V3, arXiv 2412.19437, table 2: ``(PP/2 - 1)(F&B + B - 3W)``, its B being B + W here).

    >>> float(pipeline_s("1f1b", *np.array([1.0, 1.0, 1.0, 4.0, 8.0, 0.0]), 4, 8, 1))
    33.0
    """
    f, b, w = forward_s, backward_input_s, backward_weight_s
    m, p, v = microbatches, pp, interleave
    slow = f + b + w
    rest = all_forward_s + all_backward_s - slow  # of all other stages
    if schedule == "1f1b" and np.any(np.asarray(v) > 1):
        passes = (f, b, w, all_forward_s, all_backward_s, send_s, p, m)
        return np.where(np.asarray(v) > 1, pipeline_s("interleaved", *passes, v, overlap), pipeline_s("1f1b", *passes, 1, overlap))
    if schedule in ("gpipe", "1f1b"):
        time = m * slow + rest
    elif schedule == "interleaved":
        time = m * slow + rest / v
    elif schedule == "zero-bubble":
        all_weight_s = all_backward_s * w / np.maximum(b + w, np.finfo(float).tiny)
        time = m * slow + np.maximum(rest - 2 * (all_weight_s - w), 0.0)
    elif schedule == "dualpipe":
        time = m * slow + (p / 2 - 1) * np.maximum(f + 2 * b - w, 0.0)
    else:
        raise UnknownName("schedule", schedule, get_args(Schedule))
    return np.where(p > 1, time + _sends_s(schedule, f, b, w, send_s, p, m, v, overlap), m * slow)


def _sends_s(schedule: str, f: Array, b: Array, w: Array, send_s: Array, p: Array, m: Array, v: Array, overlap: bool) -> Array:
    """What messages add. They travel along the fill and the drain, and hold up each round of microbatches where nothing hides them."""
    ends = 2 * (p - 1) * send_s
    if not overlap:
        return ends + 2 * (m - 1) * v * send_s
    if schedule == "gpipe":
        return ends
    if schedule == "interleaved":
        return 2 * (p * v - 1) * send_s + m * np.maximum(v * send_s - np.minimum(f, b + w), 0.0)
    if schedule == "zero-bubble":
        return np.minimum(2 * ends, ends * (1 + (m - 1) / p)) + m * np.maximum(ends - (p - 1) * w, 0.0) / p
    if schedule == "dualpipe":
        return ends
    return ends * (1 + (m - 1) / p)
