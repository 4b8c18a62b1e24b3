"""A test with a benchmark has ended: its row is final now. A test that fails after the measurement has measured something wrong."""

from __future__ import annotations

from typing import Any

import pytest

from .chip_benchmark import ChipBenchmark
from .options import Options
from .rows import Place, failed_row, status_of
from .session import Session

BENCHMARK: pytest.StashKey[ChipBenchmark] = pytest.StashKey()
"""On a test: its benchmark, once the fixture was made."""


def record(session: Session, item: pytest.Item, call: pytest.CallInfo[None], report: Any) -> None:
    """Record the row of a test at the end of its call, or of its setup where that failed.

    Nothing is recorded of a test that never called the fixture and passed, nor where pytest-benchmark measures nothing.
    """
    if not session.measuring or report.when == "teardown" or (report.when == "setup" and report.passed):
        return
    benchmark = item.stash.get(BENCHMARK, None)
    if not report.passed and (benchmark is None or benchmark.row is None or benchmark.row.status == "ok"):
        status, reason = _ending(call, report)
        if benchmark is None:
            facts = None if session.known_chip is None else session.known_chip.facts
            session.record(failed_row(Place.of(item, session.run_id), facts, Options(), status, reason))
            return
        benchmark.failed(status, reason)
    if benchmark is not None and benchmark.row is not None:
        session.record(benchmark.row)


def _ending(call: pytest.CallInfo[None], report: Any) -> tuple[str, str]:
    error = None if call.excinfo is None else call.excinfo.value
    if report.skipped and not hasattr(report, "wasxfail"):
        return "skipped", " ".join(str(error).split()) or "skipped by the test"
    if error is None:
        return "error", "the test failed without an exception"
    # pytest.fail is no Exception but means a wrong outcome, as an assertion does.
    if isinstance(error, pytest.fail.Exception):
        return "incorrect", status_of(error)[1]
    return status_of(error)
