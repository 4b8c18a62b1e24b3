"""What pytest sees: options, the header line, the marker, the fixtures, and a row for each benchmark as its test ends.

It is loaded by every pytest of an environment that has chipassay, so nothing is imported here that a test may never need.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from chipassay.results.safe_text import printable

from . import session

if TYPE_CHECKING:
    from .chip import Chip

MARKER = (
    "chip(*kinds, dtype=None, count=1): skip the test where the device under test is none of these kinds "
    "(cpu, cuda, rocm, ..., or gpu: any but cpu), does not compute in dtype itself, or is alone"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chipassay", "benchmarks of accelerators (chipassay)")
    group.addoption(
        "--chipassay-device",
        choices=session.DEVICE_KINDS,
        default=session.AUTO,
        help="the device under test; auto: a GPU if there is one, else the CPU (default: auto)",
    )
    group.addoption(
        "--chipassay-csv",
        metavar="FILE",
        help="write a row of the results table for each chip_benchmark as its test ends; an existing file is continued",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    config.stash[session.KEY] = session.Session(config)
    # An option of pytest-benchmark: whether it is loaded, by whichever way.
    fixtures = "with_benchmark" if hasattr(config.option, "benchmark_disable") else "without_benchmark"
    config.pluginmanager.import_plugin(f"{__package__}.{fixtures}")


def pytest_report_header(config: pytest.Config) -> str:
    return config.stash[session.KEY].header()


def pytest_sessionstart(session: pytest.Session) -> None:
    _of(session.config).open_table()


def pytest_sessionfinish(session: pytest.Session) -> None:
    _of(session.config).close_table()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in _of(config).summary():
        terminalreporter.write_line(printable(line))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("chip"):
        _of(item.config).chip().skip_unless(*marker.args, **marker.kwargs)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    outcome = yield
    if "chip_benchmark" in getattr(item, "fixturenames", ()):
        from .ended import record

        record(_of(item.config), item, call, outcome.get_result())


@pytest.fixture(scope="session")
def chip(request: pytest.FixtureRequest) -> Chip:
    """The device under test, as ``--chipassay-device`` says: a GPU, or the CPU where there is none."""
    return _of(request.config).chip()


def _of(config: pytest.Config) -> session.Session:
    return config.stash[session.KEY]
