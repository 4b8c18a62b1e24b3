"""The pytest plugin as a session, and in whole runs of pytest in processes of their own."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from chipassay.results.cells import from_text
from chipassay.results.schema import NAMES
from chipassay.results.table import read_rows
from chipassay.runners.pytest_plugin import session
from chipassay.runners.pytest_plugin.session import Session


def session_of(device="auto", csv=None, **more):
    """A session over a stand-in for pytest's config, with pytest-benchmark measuring."""
    measuring = SimpleNamespace(disabled=False, skip=False)
    options = {"chipassay_device": device, "chipassay_csv": csv}
    plugins = SimpleNamespace(getplugin={"pytest-benchmark": measuring}.get)
    return Session(SimpleNamespace(getoption=options.get, pluginmanager=plugins, option=SimpleNamespace(collectonly=False), **more))


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (False, "device=auto (no GPU driver here: benchmarks measure the CPU)"),
        (True, "device=auto (a GPU if torch or CuPy finds one, else the CPU)"),
        (None, "device=auto (a GPU if torch or CuPy finds one, else the CPU)"),
    ],
)
def test_the_header_says_that_the_cpu_stands_in_where_no_gpu_can_be(monkeypatch, driver, words):
    monkeypatch.setattr(session, "gpu_driver_here", lambda: driver)
    assert session_of().header() == f"chipassay: {words}"


def test_workers_of_xdist_measure_nothing_and_leave_the_file_alone(tmp_path):
    assert session_of().measuring
    worker = session_of(csv=str(tmp_path / "rows.csv"), workerinput={"workerid": "gw0"})
    worker.open_table()
    assert not worker.measuring
    assert not (tmp_path / "rows.csv").exists()


CONFTEST = f"""
import sys
import pytest
sys.path.insert(0, {str(Path(__file__).parent)!r})

def pytest_collection_finish(session):
    print("LOADED", sorted({{"torch", "numpy", "pandas", "scipy", "matplotlib"}} & set(sys.modules)))

@pytest.fixture(scope="session")
def chip():
    from chipassay.runners.devices.discover import Device
    from chipassay.runners.devices.facts import DeviceFacts
    from chipassay.runners.pytest_plugin.chip import Chip
    from fakes import FakeChip, noisy
    facts = DeviceFacts("cuda", "=X1()", "x1-8gb", 1, 8 * 10**9, 10**6, "driver 1")
    return Chip(Device(facts, FakeChip(noisy(1e-2, 0.01)), "cuda:0"))
"""
TESTS = """
import pytest

@pytest.mark.parametrize("n", [1, 2])
def test_good(chip_benchmark, n):
    assert chip_benchmark.options(op="copy", dtype="fp32", elements=n, bytes=8.0 * n)(int, n) == n

def test_wrong(chip_benchmark):
    chip_benchmark.options(op="copy", reference=1.0, tolerance=0.1)(float, 2)

def test_asserts_later(chip_benchmark):
    assert chip_benchmark(int, 3) == 4

def test_raises(chip_benchmark):
    chip_benchmark(int, "=x")

@pytest.mark.xfail(reason="known")
def test_known(chip_benchmark):
    chip_benchmark.options(check=lambda result: False)(int)

def test_skips(chip_benchmark):
    pytest.skip("no such kernel")

def test_never_calls(chip_benchmark):
    pass

def test_of_pytest_benchmark(benchmark):
    benchmark(int)

def test_plain():
    pass
"""


class Project:
    """A folder of tests, run by pytest in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "test_it.py").write_text(TESTS)

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-rs", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=120)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run with everything written, and its project."""
    project = Project(tmp_path_factory.mktemp("project"))
    output = project.run("--benchmark-json=rows.json", "--chipassay-csv=rows.csv", "--chipassay-device=cpu", "--benchmark-max-time=0.1")
    return project, output


def named(path: Path):
    return {(row.kernel.rpartition("::")[2], row.variant): row for row in read_rows(path)}


def test_tests_pass_and_fail_as_without_the_plugin(run):
    assert "3 failed, 5 passed, 1 skipped, 1 xfailed" in run[1]


def test_the_header_names_device_and_file_and_the_end_counts_rows(run):
    assert "\nchipassay: device=cpu csv=rows.csv\n" in run[1]
    assert "chipassay: 2 ok, 3 incorrect, 1 error, 1 skipped; rows in rows.csv" in run[1]


def test_nothing_heavy_is_loaded_until_a_test_needs_it(run):
    assert "\nLOADED []\n" in run[1]


def test_every_benchmark_has_a_row_with_its_outcome(run):
    rows = named(run[0].folder / "rows.csv")
    assert {name: row.status for name, row in rows.items()} == {
        ("test_good", "n=1"): "ok",
        ("test_good", "n=2"): "ok",
        ("test_wrong", None): "incorrect",
        ("test_asserts_later", None): "incorrect",
        ("test_raises", None): "error",
        ("test_known", None): "incorrect",
        ("test_skips", None): "skipped",
    }
    assert rows["test_raises", None].reason.startswith("ValueError: invalid literal")
    assert rows["test_skips", None].reason == "no such kernel"
    assert rows["test_wrong", None].error == 1.0
    assert rows["test_good", "n=2"].elements == 2
    assert {row.device_name for row in rows.values()} == {"=X1()"}


def test_rows_of_the_csv_are_those_in_extra_info(run):
    rows = named(run[0].folder / "rows.csv")
    saved = json.loads((run[0].folder / "rows.json").read_text())["benchmarks"]
    ours = [benchmark for benchmark in saved if "chipassay" in benchmark["extra_info"]]
    assert sorted(benchmark["name"] for benchmark in ours) == ["test_asserts_later", "test_good[1]", "test_good[2]"]
    for benchmark in ours:
        cells = benchmark["extra_info"]["chipassay"]
        row = rows[benchmark["name"].partition("[")[0], cells.get("variant")]
        assert {name: from_text(name, cells.get(name, "")) for name in NAMES} == {name: getattr(row, name) for name in NAMES}


def test_saved_json_is_read_back_as_the_same_rows(run):
    from chipassay.runners.reading import read_any

    rows = named(run[0].folder / "rows.csv")
    read = [row for row in read_any([run[0].folder / "rows.json"]) if row.tool is None]
    assert len(read) == 3
    for row in read:
        assert replace(row, source_hash=None) == rows[row.kernel.rpartition("::")[2], row.variant]


def test_an_existing_csv_is_continued_as_another_run(run):
    project, _ = run
    copy = project.folder / "twice.csv"
    copy.write_bytes((project.folder / "rows.csv").read_bytes())
    project.run("--chipassay-csv=twice.csv", "-k", "test_good", "--benchmark-max-time=0.1")
    before, rows = read_rows(project.folder / "rows.csv"), read_rows(copy)
    assert rows[: len(before)] == before
    assert len(rows) == len(before) + 2
    assert len({row.run_id for row in rows}) == 2


def test_a_file_of_something_else_is_refused_before_any_test_and_left_as_it_is(run):
    project, _ = run
    other = project.folder / "other.csv"
    other.write_text("a,b\n1,2\nlast line without an end")
    output = project.run("--chipassay-csv=other.csv")
    assert "ERROR: other.csv, line 1: has other columns than this version writes; choose a new file with --chipassay-csv" in output
    assert "passed" not in output
    assert other.read_text() == "a,b\n1,2\nlast line without an end"


def test_disabled_benchmarks_run_once_and_write_no_row(run):
    project, _ = run
    output = project.run("--benchmark-disable", "--chipassay-csv=none.csv", "--benchmark-json=none.json")
    assert "3 failed, 5 passed, 1 skipped, 1 xfailed" in output
    assert "chipassay: 2 ok" not in output
    assert not (project.folder / "none.csv").exists()


def test_benchmark_skip_and_only_know_the_fixture(run):
    project, _ = run
    output = project.run("--benchmark-skip", "--chipassay-csv=none.csv")
    assert "1 passed, 9 skipped" in output
    assert not (project.folder / "none.csv").exists()
    assert "Skipping non-benchmark" in project.run("--benchmark-only", "-k", "plain or test_good", "--benchmark-max-time=0.1")


def test_without_pytest_benchmark_the_fixture_says_what_to_install(run):
    output = run[0].run("-p", "no:benchmark", "-k", "test_plain or test_skips")
    assert "chip_benchmark needs pytest-benchmark 4.0 or newer" in output
    assert "pip install pytest-benchmark" in output
    assert "1 passed" in output


def test_a_device_that_is_not_here_and_a_marker_that_does_not_fit_are_told(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.chip('npu')\ndef test_npu(): pass\n@pytest.mark.chip('npu', 'cpu', 'gpu')\ndef test_any(chip): pass\n"
    )
    run = functools.partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    skipped = run([sys.executable, "-m", "pytest", "-rs", "--strict-markers", "--chipassay-device=cpu"]).stdout
    assert "needs npu; the device under test is cpu (" in skipped
    assert "1 passed, 1 skipped" in skipped
    missing = run([sys.executable, "-m", "pytest", "--chipassay-device=npu", "-k", "any"]).stdout
    assert "--chipassay-device npu: no such device here, only" in missing
