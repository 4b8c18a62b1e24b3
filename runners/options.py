"""What a run is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from chipassay.results.errors import FileError
from chipassay.results.schema import Row

from .devices.facts import DeviceFacts


@dataclass(frozen=True)
class RunOptions:
    """What to measure and where to write it."""

    suite: str = "quick"
    only: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    cache: tuple[str, ...] = ()
    """``cold``, ``warm`` or both, in place of what the suite says."""
    launch: tuple[str, ...] = ()
    """``stream``, ``graph`` or both, in place of what the suite says."""
    sustain_s: float = 0.0
    """After the samples of each case's first visit, calls back to back for so long."""
    budget_s: float | None = None
    ranks: int | None = None
    """Local ranks of a collective; None: one a GPU, two on a CPU."""
    share_gpu: bool = False
    """All local ranks drive one GPU: for tests of what runs, no measurement."""
    out: Path | None = None
    resume: bool = False
    device_kind: str | None = None
    device_index: int | None = None
    """Only this one of several GPUs, as the driver counts them, and of collectives none; None: the first, and all for a collective."""
    device_environment: Mapping[str, str] = field(default_factory=dict)
    """What makes a process see that one alone."""
    seed: int = 1
    tune: bool = True
    """Search for the fastest configuration of our kernels where none is known; the choices go into ``tuned/`` beside the rows."""
    rounds: int = 2
    """Visits to each case, spread over the run, so that its spread holds the machine's drift over minutes."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    path: Path
    rows: tuple[Row, ...]
    """All rows of the run, those of earlier parts included."""
    facts: DeviceFacts
    wall_s: float
    measuring_s: float
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """0, 130 when interrupted, 3 when no row is ok."""
        if self.interrupted:
            return 130
        return 0 if any(row.status == "ok" for row in self.rows) else 3


RESULTS = Path("results")
"""Where rows go when nothing else is said; tuned choices go into ``tuned/`` beside them."""


def already_exists(path: Path) -> FileError:
    """What to say of a file that would be written over."""
    return FileError(path, "already exists", mend="go on with it by --resume, or name another file with --out")


def default_path(chip_id: str, now: datetime | None = None) -> Path:
    """``results/<chip>-<utc>.csv``."""
    moment = now or datetime.now(timezone.utc)
    return RESULTS / f"{chip_id}-{moment:%Y%m%dT%H%M%SZ}.csv"
