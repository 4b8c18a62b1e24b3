"""One run of pytest: its device, found when it is first needed, and the table that its rows go to."""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chipassay.results.errors import FileError, InputError

if TYPE_CHECKING:
    from chipassay.results.schema import Row
    from chipassay.results.table import TableWriter

    from .chip import Chip

AUTO = "auto"
DEVICE_KINDS = (AUTO, "cpu", "cuda", "rocm", "xpu", "mps", "npu")

DRIVER_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/davinci_manager", "/dev/dri")
"""What the drivers of NVIDIA, AMD, Windows' Linux, Ascend and Intel put there: without any of them no library finds a GPU on Linux."""


def gpu_driver_here() -> bool | None:
    """Whether a GPU can be here, without importing a library that would know; None where there is no telling."""
    if not sys.platform.startswith("linux"):
        return None
    return any(Path(path).exists() for path in DRIVER_FILES)


def in_worker(config: pytest.Config) -> bool:
    """Whether this is one of several processes of pytest-xdist."""
    return hasattr(config, "workerinput")


class Session:
    """The state of one run of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self.run_id = uuid.uuid4().hex[:12]
        self._config = config
        self._wanted: str = config.getoption("chipassay_device")
        self._chip: Chip | None = None
        self._no_chip: InputError | None = None
        self._table: TableWriter | None = None
        self._counts: Counter[str] = Counter()

    @property
    def measuring(self) -> bool:
        """False where pytest-benchmark is absent, or runs each benchmark once as a test (--benchmark-disable, xdist), or skips them."""
        # The name under which pytest-benchmark registers its session, since 3.0.
        benchmarks = self._config.pluginmanager.getplugin("pytest-benchmark")
        return benchmarks is not None and not benchmarks.disabled and not benchmarks.skip and not in_worker(self._config)

    @property
    def known_chip(self) -> Chip | None:
        """The device, if it has been looked for."""
        return self._chip

    def chip(self) -> Chip:
        """The device under test. Raises InputError where it is not the one that was asked for, each time anew."""
        if self._no_chip is not None:
            raise self._no_chip
        if self._chip is None:
            from ..devices.discover import discover
            from .chip import Chip

            device = discover("cpu" if self._wanted == "cpu" else None)
            if self._wanted not in (AUTO, device.facts.kind):
                self._no_chip = InputError(
                    f"--chipassay-device {self._wanted}: no such device here, only {device.facts.kind} ({device.facts.name}); "
                    "`chipassay doctor` says why"
                )
                raise self._no_chip
            self._chip = Chip(device)
        return self._chip

    def header(self) -> str:
        """The line above the tests. A device is not looked for here: that takes seconds, and a run may need none."""
        if self._wanted != AUTO:
            device = self._wanted
        elif gpu_driver_here() is False:
            device = "auto (no GPU driver here: benchmarks measure the CPU)"
        else:
            device = "auto (a GPU if torch or CuPy finds one, else the CPU)"
        path = self._config.getoption("chipassay_csv")
        return f"chipassay: device={device}" + (f" csv={path}" if path else "")

    def open_table(self) -> None:
        """Open the file of --chipassay-csv, so that one that cannot be written is known before anything is measured.

        Raises pytest.UsageError.
        """
        path = self._config.getoption("chipassay_csv")
        if path is None or self._config.option.collectonly or not self.measuring:
            return
        from chipassay.results.table import TableWriter

        try:
            self._table = TableWriter(path)
        except FileError as error:
            raise pytest.UsageError(str(error).replace("--out", "--chipassay-csv")) from error

    def close_table(self) -> None:
        if self._table is not None:
            self._table.close()

    def record(self, row: Row) -> None:
        """One benchmark is over."""
        self._counts[row.status or ""] += 1
        if self._table is not None:
            self._table.append(row)

    def summary(self) -> list[str]:
        """Lines for the end: what was measured, where the rows are, and what to know of the device."""
        if not self._counts:
            return []
        counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in self._counts.items())
        where = "" if self._table is None else f"; rows in {self._table.path}"
        if self._chip is None:
            return [f"chipassay: {counts}{where}"]
        facts = self._chip.facts
        return [f"chipassay: {counts}, on {facts.name} ({facts.chip_id}){where}", *(f"chipassay: {note}" for note in facts.notes)]


KEY: pytest.StashKey[Session] = pytest.StashKey()
