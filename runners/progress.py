"""What the user sees while a run measures: a bar on a terminal, a line per row elsewhere."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from types import TracebackType
from typing import IO, Any

from chipassay.results.operations import limited_by, time_per_kernel_s
from chipassay.results.safe_text import printable
from chipassay.results.schema import Row
from chipassay.results.units import bandwidth, rate, seconds

from .say import say
from .tasks import Task


def outcome(row: Row) -> str:
    """A row's result in a few words.

    >>> outcome(Row(status="skipped", reason="no such dtype"))
    'skipped: no such dtype'
    """
    if row.status != "ok" or row.time_median_s is None:
        return f"{row.status}: {row.reason}"
    if row.busbw_bytes_per_s is not None and row.algbw_bytes_per_s is not None:
        figure = f"{bandwidth(row.busbw_bytes_per_s)} busbw"
    elif limited_by(row) in ("memory", "link") and row.bandwidth_bytes_per_s is not None:
        figure = bandwidth(row.bandwidth_bytes_per_s)
    elif limited_by(row) == "compute" and row.rate_flops_per_s is not None:
        figure = rate(row.rate_flops_per_s)
    elif (per_kernel_s := time_per_kernel_s(row)) is not None:
        figure = f"{seconds(per_kernel_s)} a kernel"
    else:
        figure = ""
    words = [figure, f"in {seconds(row.time_median_s)}"]
    if row.time_low_s is not None and row.time_high_s is not None:
        words.append(f"+-{50 * (row.time_high_s - row.time_low_s) / row.time_median_s:.1f} %")
    if row.peak_fraction is not None:
        words.append(f"({100 * row.peak_fraction:.0f} % of peak)")
    if row.sustained_time_s is not None:
        words.append(f"sustained {seconds(row.sustained_time_s)}")
    if row.flags:
        words.append(f"[{row.flags.replace(';', '; ')}]")
    elif row.throttled:
        words.append("[throttled]")
    return " ".join(word for word in words if word)


class Progress:
    """Shows how far a run is, on standard error; ``quiet`` shows nothing."""

    def __init__(self, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._bar: Any = None
        self._task_id: Any = None
        self._begin_s = time.monotonic()

    def __enter__(self) -> Progress:
        # Straight from a checkout rich may be missing: then each row is a line, as it is without a terminal.
        if not self._quiet and self._stream.isatty() and find_spec("rich"):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(file=self._stream),
                transient=True,
            )
            self._bar.start()
            self._task_id = self._bar.add_task("starting", total=None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, words: str) -> None:
        """A line of its own, for what takes time beside the tasks."""
        if self._quiet:
            return
        if self._bar is None:
            say(words, to=self._stream)
        else:
            self._bar.console.print(printable(words), markup=False, highlight=False)

    def report(self, done: int, total: int, task: Task, row: Row | None) -> None:
        """Called before a task (no row) and after it."""
        self.advance(done, total, task.title, "" if row is None else outcome(row))

    def advance(self, done: int, total: int, title: str, result: str) -> None:
        """``done`` of ``total``: what it is that goes on, or is done where there is a result in a few words."""
        if self._quiet:
            return
        line = f"[{done:>{len(str(total))}}/{total}] {title}: {result}" if result else ""
        if self._bar is None:
            if line:
                say(line, to=self._stream)
            return
        self._bar.update(self._task_id, total=total, completed=done, description=printable(title))
        if line:
            self._bar.console.print(printable(line), markup=False, highlight=False, overflow="ellipsis", no_wrap=True)
