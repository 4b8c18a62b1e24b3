"""The object behind the ``chip_benchmark`` fixture: one function, checked, measured on the chip, handed on to pytest-benchmark.

The samples are taken by chipassay's own engine and then replayed through pytest-benchmark's public ``pedantic``, a round each, so that
its table, JSON, storage, comparison and groups work as for any other benchmark.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from chipassay.results.cells import to_text
from chipassay.results.errors import InputError
from chipassay.results.operations import LIMITED_BY
from chipassay.results.schema import NAMES, Row

from ..devices.discover import Device
from ..measure_kernel import WARMUP_SHARE
from ..timing.engine import Samples, measure
from ..timing.stopping import PreciseMedian
from .chip import Chip
from .correct import WrongResult, checked
from .options import Options
from .quiet import quiet
from .replay import replay
from .rows import Place, failed_row, measured_row, status_of
from .where import on_host_alone

EXTRA_INFO = "chipassay"
"""The key in pytest-benchmark's ``extra_info``: column name -> text of the cell, columns without a value left out."""


@dataclass(frozen=True)
class Limits:
    """What pytest-benchmark's own options say of how long and how a benchmark runs."""

    max_time_s: float
    min_rounds: int
    disable_gc: bool

    @classmethod
    def of(cls, request: pytest.FixtureRequest) -> Limits:
        """From the marker ``benchmark``, else from the command line."""
        marker = request.node.get_closest_marker("benchmark")
        told = marker.kwargs if marker else {}

        def option(name: str) -> Any:
            return told.get(name, request.config.getoption(f"benchmark_{name}"))

        return cls(float(option("max_time")), int(option("min_rounds")), bool(option("disable_gc")))


class ChipBenchmark:
    """``chip_benchmark(function, *args, **kwargs)``, once in a test."""

    def __init__(self, benchmark: Any, chip: Chip, node: pytest.Item, run_id: str, limits: Limits) -> None:
        self.benchmark = benchmark
        """pytest-benchmark's own fixture, for its ``extra_info`` and ``group``."""
        self.chip = chip
        self.row: Row | None = None
        """What came of it, once it was called."""
        self._place = Place.of(node, run_id)
        self._limits = limits
        self._options = Options()

    def options(self, **given: Any) -> ChipBenchmark:
        """Say more of the benchmark: the fields of ``Options``, and columns of the row by name (``m``, ``n``, ``k``, ``rows``, ...).

        Raises UnknownName, InputError.
        """
        self._options = self._options.with_(given)
        return self

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Check and measure a call; the result of the first one.

        Raises what the function raises, WrongResult (an AssertionError) for a wrong result, InputError for a function of the host on a GPU;
        then nothing is timed.
        """
        __tracebackhide__ = True
        if self.benchmark.disabled or self.row is not None:
            # Once, as a test; a second use is refused here, in pytest-benchmark's words.
            result = self.benchmark.pedantic(function, args=args, kwargs=kwargs)
            checked(self._options, result, args, kwargs)
            return result
        call = functools.partial(function, *args, **kwargs)
        device = self._device()
        try:
            result = _first(call, device)
            self._is_of(device, (args, kwargs, result))
            correct = checked(self._options, result, args, kwargs)
            samples = self._measure(call, device)
        except Exception as error:  # whatever a library raises: the row tells it, and the test fails with it
            self._fails(error)
            raise  # not reached: pytest-benchmark has raised it
        self._store(measured_row(self._place, device.facts, self._options, samples, correct))
        replay(self.benchmark, samples.times_s, samples.clock_source, call)
        return result

    def _device(self) -> Device:
        if self._options.device != "cpu" or self.chip.kind == "cpu":
            return self.chip.device
        return _host()

    def _is_of(self, device: Device, values: tuple[Any, ...]) -> None:
        """Raises InputError for what looks like a function of the host while a GPU's events are the clock: they would not see it."""
        if self._options.device is None and device.facts.kind != "cpu" and on_host_alone(values):
            raise InputError(
                f"arguments and result lie in the host's memory, and the chip under test is {device.facts.name}; "
                "write chip_benchmark.options(device='cpu') for a function of the host, device='chip' for one that uses the chip inside"
            )

    def _measure(self, call: Callable[[], Any], device: Device) -> Samples:
        cap_s = self._options.max_time_s or self._limits.max_time_s
        rule = PreciseMedian(time_cap_s=(1 - WARMUP_SHARE) * cap_s)
        rule = replace(
            rule,
            min_time_s=min(rule.min_time_s, rule.time_cap_s / 2),
            min_samples=max(rule.min_samples, self._limits.min_rounds),
            few_samples=max(rule.few_samples, self._limits.min_rounds),
        )
        with quiet(self._limits.disable_gc):
            return measure(
                call,
                device.timer,
                rule,
                cache=self._options.cache,
                before_sample=self._options.before_sample,
                warmup_cap_s=WARMUP_SHARE * cap_s,
                # What issuing it costs the host is what such an operation measures.
                queue=LIMITED_BY.get(self._options.op) != "overhead",
            )

    def _store(self, row: Row) -> None:
        self.row = row
        cells = {name: to_text(getattr(row, name)) for name in NAMES}
        self.benchmark.extra_info[EXTRA_INFO] = {name: cell for name, cell in cells.items() if cell}

    def _fails(self, error: Exception) -> None:
        """Let pytest-benchmark raise it, so that it knows of a benchmark that failed."""
        __tracebackhide__ = True
        status, reason = status_of(error)
        self.failed(status, reason)
        if isinstance(error, WrongResult) and self.row is not None:
            self._store(replace(self.row, error=error.error, error_limit=self._options.tolerance))

        def raises() -> None:
            raise error

        self.benchmark.pedantic(raises)

    def failed(self, status: str, reason: str) -> None:
        """The benchmark came to nothing. A row that was measured keeps its times: the status says that they are not to be used."""
        if self.row is not None:
            self._store(replace(self.row, status=status, reason=reason))
        else:
            self._store(failed_row(self._place, self._device().facts, self._options, status, reason))


def _first(call: Callable[[], Any], device: Device) -> Any:
    """The result of one call, complete: the timer waits for the device, whichever library drives it."""
    results: list[Any] = []
    device.timer.time_call(lambda: results.append(call()))
    return results[0]


@functools.cache
def _host() -> Device:
    """The CPU beside a GPU."""
    from ..devices.discover import discover

    return discover("cpu")
