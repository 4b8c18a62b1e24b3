"""When each pass of a step ran: what a simulation answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .passes import Kind
from .stages import Stages

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Timeline:
    """All passes of one step; arrays of one length, in an order in which each comes after those it waited for."""

    stages: Stages
    stage: Array
    kind: Array
    """Values of ``Kind``."""
    position: Array
    """Part of the model, from 0."""
    microbatch: Array
    start_s: Array
    end_s: Array
    paired: Array
    """Ran beside a pass the other way, from the same start to the same end (DualPipe)."""
    sent_to: Array
    """Stage that waits for a message of this pass; -1 where none does."""
    sent_s: Array
    """How long that message travels, from the end of the pass."""

    @property
    def makespan_s(self) -> float:
        """From the first forward to the end of the last pass."""
        return float(self.end_s.max())

    @property
    def busy_s(self) -> Array:
        """Seconds that each stage computed."""
        share = np.where(self.paired, 0.5, 1.0)  # both passes of a pair span all of it
        return np.bincount(self.stage, share * (self.end_s - self.start_s), self.stages.count)

    @property
    def idle_s(self) -> Array:
        """Seconds of the step in which each stage waited: its bubble."""
        return self.makespan_s - self.busy_s

    @property
    def bubble_share(self) -> float:
        """Idle time over all time, of all stages together."""
        return float(self.idle_s.sum() / (self.makespan_s * self.stages.count))

    @property
    def chunk(self) -> Array:
        """Which of a stage's chunks a pass ran; with ``dualpipe`` 0 for microbatches that entered at the first stage, 1 for the others."""
        if self.stages.schedule == "dualpipe" and self.stages.count > 1:
            return np.where(self.microbatch < self.stages.microbatches // 2, 0, 1)
        return self.position // self.stages.count

    @property
    def chunk_count(self) -> int:
        """Chunks that each stage holds, with DualPipe's second copy."""
        return 2 if self.stages.schedule == "dualpipe" and self.stages.count > 1 else self.stages.chunks

    @property
    def peak_in_flight(self) -> Array:
        """The most microbatches that each stage held at once, from the start of a forward to the end of its last backward pass, in units of
        a whole stage (a chunk counts 1 / v)."""
        held = np.select([self.kind == Kind.FORWARD, self.kind != Kind.BACKWARD_INPUT], [1, -1], 0)
        peaks = [np.cumsum(held[self.stage == stage]).max() for stage in range(self.stages.count)]  # a stage runs its passes in this order
        return np.array(peaks) / self.stages.chunks
