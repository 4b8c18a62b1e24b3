"""What the simulation of a pipeline starts from: how long each pass and message takes, and the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chipassay.results.errors import InputError

from ..plan import Schedule
from .schedules import check_schedule

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Stages:
    """One step's pipeline. Times are seconds of one microbatch, arrays of shape (stages p, chunks v of a stage); ``of`` makes it from less.

    Chunk c of stage i is the model's part c * p + i. With ``dualpipe`` row i is the model's part i, which stages i and p - 1 - i both hold.
    """

    forward_s: Array
    backward_input_s: Array
    backward_weight_s: Array
    send_forward_s: Array
    """The message that the part after this one waits for (that of the last part is not sent)."""
    send_backward_s: Array
    """The message that the part before this one waits for (that of the first part is not sent)."""
    microbatches: int
    schedule: Schedule = "1f1b"
    overlap: bool = True
    """A stage goes on while its message travels, and only the receiver waits; False: the sender waits too."""
    pair_saving_s: float = 0.0
    """What a forward beside a backward takes less than one after the other (``dualpipe``)."""

    @classmethod
    def of(
        cls,
        forward_s: npt.ArrayLike,
        backward_input_s: npt.ArrayLike,
        backward_weight_s: npt.ArrayLike = 0.0,
        send_s: npt.ArrayLike = 0.0,
        *,
        microbatches: int,
        stages: int | None = None,
        interleave: int = 1,
        schedule: Schedule = "1f1b",
        overlap: bool = True,
        pair_saving_s: float = 0.0,
    ) -> Stages:
        """Times as numbers (the same everywhere), a row of p (shared equally by a stage's chunks) or an array (p, v).

        ``send_s``: one message, either way, as number, row or array. Raises InputError for a time that is negative or not finite, or
        shapes that disagree, and as ``check_schedule``.

        >>> Stages.of([1.0, 1.0, 2.0], 2.0, microbatches=8).forward_s.ravel()
        array([1., 1., 2.])
        """
        given = {"forward_s": forward_s, "backward_input_s": backward_input_s, "backward_weight_s": backward_weight_s, "send_s": send_s}
        arrays = {name: np.asarray(values, float) for name, values in given.items()}
        if stages is None:
            stages = max(len(values) if values.ndim else 1 for values in arrays.values())
        full = {}
        for name, values in arrays.items():
            if not np.all(np.isfinite(values)) or np.any(values < 0):
                raise InputError(f"{name} of the pipeline holds a time that is negative or not finite; give seconds from 0 up")
            if values.ndim < 2:
                values = values.reshape(-1, 1) / (1 if name == "send_s" else interleave)
            try:
                full[name] = np.broadcast_to(values, (stages, interleave))
            except ValueError:
                raise InputError(
                    f"{name} of the pipeline has shape {arrays[name].shape}, but there are {stages} stages of {interleave} chunks; "
                    "give a number, one time per stage, or one per stage and chunk"
                ) from None
        check_schedule(schedule, stages, interleave, microbatches)
        if pair_saving_s < 0 or pair_saving_s > min(np.min(full["forward_s"]), np.min(full["backward_input_s"])):
            raise InputError(f"pair_saving_s is {pair_saving_s}; a pair saves from 0 up to the shorter of its two passes")
        send = full.pop("send_s")
        return cls(
            **full, send_forward_s=send, send_backward_s=send, microbatches=microbatches, schedule=schedule, overlap=overlap,
            pair_saving_s=pair_saving_s,
        )  # fmt: skip

    @classmethod
    def of_slowest(
        cls,
        schedule: Schedule,
        forward_s: float,
        backward_input_s: float,
        backward_weight_s: float,
        all_forward_s: float,
        all_backward_s: float,
        send_s: float,
        pp: int,
        microbatches: int,
        interleave: int,
        overlap: bool = True,
        pair_saving_s: float = 0.0,
        behind: int = 0,
    ) -> Stages:
        """The pipeline that ``closed_form.pipeline_s`` means by the same arguments: one slowest stage and with ``dualpipe`` its mirror,
        all others equal. Raises as ``of``."""
        slowest = np.zeros(pp, bool)
        slowest[pp - 1 - behind] = True
        if schedule == "dualpipe":
            slowest[behind] = True
        rest = max(1, pp - int(slowest.sum()))
        backward_s = backward_input_s + backward_weight_s
        input_share = backward_input_s / backward_s if backward_s else 0.0
        other_backward_s = (all_backward_s - slowest.sum() * backward_s) / rest

        def rows(of_slowest: float, other: float) -> Array:
            return np.where(slowest, of_slowest, max(other, 0.0))

        return cls.of(
            rows(forward_s, (all_forward_s - slowest.sum() * forward_s) / rest), rows(backward_input_s, other_backward_s * input_share),
            rows(backward_weight_s, other_backward_s * (1 - input_share)), send_s, microbatches=microbatches, stages=pp,
            interleave=interleave, schedule=schedule, overlap=overlap, pair_saving_s=pair_saving_s,
        )  # fmt: skip

    @property
    def count(self) -> int:
        """Stages p."""
        return len(self.forward_s)

    @property
    def chunks(self) -> int:
        """Chunks v that each stage holds (DualPipe's second copy not counted)."""
        return self.forward_s.shape[1]

    @property
    def backward_s(self) -> Array:
        """The whole backward pass."""
        return self.backward_input_s + self.backward_weight_s
