"""Two things at once on the same chips: what is timed, and what runs beside it for longer. Run on one H200, never between GPUs.

On a GPU what runs beside is queued on a stream of its own; on a CPU a thread makes its calls, in which torch lets the other go on.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, Protocol

from .bursts import PlainBurst, Ran

MORE = 1.5
"""What runs beside is made to last so many times as long as what is timed would alone; each slows the other down."""
PRODUCT_FAILED = "the matrix product beside it cannot be made"


class Background(Protocol):
    """Calls that go on while something else is timed."""

    def begin(self, count: int) -> None:
        """Start so many calls; returns once the first has begun, or is queued before whatever is queued next."""

    def mark(self) -> None:
        """What is timed has been made, or wholly queued."""

    def finish(self) -> bool:
        """Wait for the end of the calls; whether they outlasted what was timed. Raises what a call raised."""


class ThreadBackground:
    """Calls by a thread, on a CPU."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._outlasted = False

    def begin(self, count: int) -> None:
        begun = threading.Event()
        self._error = None

        def work() -> None:
            begun.set()
            try:
                for _ in range(count):
                    self._call()
            except BaseException as error:  # raised again in finish, where the rank sees it
                self._error = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        begun.wait()

    def mark(self) -> None:
        self._outlasted = self._thread is not None and self._thread.is_alive()

    def finish(self) -> bool:
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._outlasted


class StreamBackground:
    """Calls on a stream of their own, on a GPU. On every rank the host queues them before what is timed: NCCL wants one order of all."""

    def __init__(self, call: Callable[[], Any]) -> None:
        import torch

        self._cuda, self._call = torch.cuda, call
        self._side = torch.cuda.Stream()

    def begin(self, count: int) -> None:
        self._start, self._end, self._timed = (self._cuda.Event(enable_timing=True) for _ in range(3))
        self._side.wait_stream(self._cuda.current_stream())
        self._start.record()
        with self._cuda.stream(self._side):
            for _ in range(count):
                self._call()
            self._end.record()

    def mark(self) -> None:
        self._timed.record()

    def finish(self) -> bool:
        self._cuda.synchronize()
        # Both from one start: a time from a later event to an earlier one is not defined.
        return bool(self._start.elapsed_time(self._end) >= self._start.elapsed_time(self._timed))


class OverlapBurst:
    """The turns of another burst, with calls beside them that last longer on every rank.

    Every rank makes the same number of calls: the others' collectives wait for each of them.
    """

    def __init__(self, timed: PlainBurst, background: Background | None, calls_per_turn_beside: float) -> None:
        """``background``: None on a rank that has nothing to do; ``calls_per_turn_beside``: to begin with, the same on every rank."""
        self._timed, self._background, self._beside = timed, background, calls_per_turn_beside
        self.calls_per_turn, self.turns_at_most, self.warmup_turns = timed.calls_per_turn, timed.turns_at_most, timed.warmup_turns

    def prepare(self, turns: int) -> None:
        self._timed.prepare(turns)

    def run(self, turns: int) -> Ran:
        if self._background is None or self._timed.turn is None:
            return Ran(0.0)
        # Before both, or the first to come would wait in what is timed for the last to begin what runs beside.
        self._timed.align()
        self._background.begin(self._count(turns))
        time_s = self._timed.timer.time_burst(self._timed.turn, turns, self._background.mark).time_s
        return Ran(time_s, self._background.finish())

    def again(self, turns: int) -> None:
        self._beside = MORE * self._count(turns) / turns

    def _count(self, turns: int) -> int:
        return max(1, math.ceil(self._beside * turns))


def matrix_product(m: int, n: int, k: int, dtype: str, device: str, seed: int) -> Callable[[], Any]:
    """``torch.mm`` of two matrices of normal values into a third. Raises what torch does where it has no such product."""
    import torch

    from .buffers import torch_dtype

    generator = torch.Generator(device=device).manual_seed(seed)
    left, right = (torch.randn(shape, device=device, generator=generator).to(torch_dtype(dtype)) for shape in ((m, k), (k, n)))
    out = torch.empty((m, n), dtype=left.dtype, device=device)
    torch.mm(left, right, out=out)
    return lambda: torch.mm(left, right, out=out)
