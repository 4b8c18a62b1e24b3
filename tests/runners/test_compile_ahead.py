"""Compiling beside the measuring process: shared out, bounded in time, and never a reason for a run to fail."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from chipassay.kernels import tuning
from chipassay.runners import crew as crew_module
from chipassay.runners import run as run_module
from chipassay.runners.compile_ahead import compile_ahead, to_compile
from chipassay.runners.devices.discover import Device
from chipassay.runners.measure_kernel import KernelMeasurer
from chipassay.runners.options import RunOptions
from chipassay.runners.run import Run
from chipassay.runners.tasks import Task
from chipassay.runners.workers.client import Workers
from chipassay.runners.workers.kernels import use_tuned_choices

from .fakes import FakeChip, steady
from .test_run import CPU_INSTEAD, FACTS, FakeWorkers

COMPILER = """
import json, sys
print("{}", flush=True)
for line in sys.stdin:
    number = json.loads(line)["compile"]["number"]
    open(sys.argv[1], "a").write(f"{number}\\n")
    BREAKS
    print("{}", flush=True)
"""
REQUESTS = [{"number": number} for number in range(20)]


def children(log: Path, breaks: str = "pass") -> Callable[[], Workers]:
    """Starts processes that note what they are asked to compile; ``breaks`` is run for each."""
    return lambda: Workers([[sys.executable, "-c", COMPILER.replace("BREAKS", breaks), str(log)]], [{}])


def test_every_case_is_compiled_once_by_one_of_the_processes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert compile_ahead(REQUESTS, 3, children(log), 60.0, time.monotonic() + 60.0) == 20
    assert sorted(map(int, log.read_text().split())) == list(range(20))


def test_a_compiler_that_dies_leaves_the_others_at_work(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert compile_ahead(REQUESTS, 3, children(log, "number == 5 and sys.exit(1)"), 60.0, time.monotonic() + 60.0) == 19
    assert sorted(map(int, log.read_text().split())) == list(range(20))


def test_a_compiler_that_hangs_is_ended_when_the_time_is_over(tmp_path: Path) -> None:
    begin_s = time.monotonic()
    assert compile_ahead(REQUESTS, 2, children(tmp_path / "log", "import time; time.sleep(600)"), 60.0, begin_s + 1.0) == 0
    assert time.monotonic() - begin_s < 10.0


def test_where_no_process_starts_nothing_is_compiled_and_nothing_breaks() -> None:
    def start() -> Workers:
        raise OSError("no more processes")

    assert compile_ahead(REQUESTS, 2, start, 60.0, time.monotonic() + 60.0) == 0


def test_a_case_is_asked_for_once_however_it_is_launched_and_only_where_something_compiles() -> None:
    def task(backend: str, launch: str, reason: str | None = None) -> Task:
        request = {"op": "copy", "case": {"elements": 1}, "backend": backend, "kernel": "k", "launch": launch, "cache": "cold"}
        return Task(columns={"op": "copy", "backend": backend}, request=request, reason=reason)

    tasks = [task("triton", "stream"), task("triton", "graph"), task("torch", "stream"), task("cupy", "stream", reason="no")]
    assert to_compile(tasks) == [{"op": "copy", "case": {"elements": 1}, "backend": "triton", "kernel": "k"}]


@pytest.mark.parametrize(("facts", "cores", "tune", "ways"), [
    (FACTS, 8, True, ["search", *["compile"] * 8]),
    (FACTS, 8, False, ["as it is"] * 9),
    (FACTS, 2, True, ["search"]),
    (CPU_INSTEAD, 8, True, ["search"]),
])  # fmt: skip
def test_a_run_on_a_gpu_compiles_first_in_the_way_that_it_will_tune(
    facts: object, cores: int, tune: bool, ways: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elements = list(range(1, 21))
    (tmp_path / "s.toml").write_text(
        f'[[block]]\nop = "copy"\nbackends = ["triton"]\ndtype = ["fp32"]\nelements = {json.dumps(elements)}\n'
    )
    fake, log, started = FakeWorkers({}, facts), tmp_path / "log", []

    def start(kind: str | None, tuned: Path, tuning: str, environment: Mapping[str, str]) -> object:
        started.append(tuning)
        return fake if len(started) == 1 else children(log)()

    monkeypatch.setattr(FakeWorkers, "backends", {"torch": None, "triton": None})
    monkeypatch.setattr(crew_module, "start_worker", start)
    monkeypatch.setattr(run_module, "usable_cores", lambda: cores)
    # The stand-in wants a number of what it compiles.
    monkeypatch.setattr(run_module, "to_compile", lambda tasks: [{"number": task.request["case"]["elements"]} for task in tasks])
    told: list[str] = []
    Run(
        RunOptions(suite=str(tmp_path / "s.toml"), out=tmp_path / "o.csv", rounds=1, tune=tune),
        lambda *_: None,
        lambda *_: None,
        told.append,
    ).execute()
    assert started == ways
    assert fake.asked == elements
    assert bool(told) == (len(ways) > 1)
    assert not log.exists() or sorted(map(int, log.read_text().split())) == elements


def test_a_process_that_compiles_runs_every_candidate_and_searches_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(tuning, "_choices", tuning.Choices())
    assert use_tuned_choices("fake", tmp_path, "compile") is None
    seen = []
    tuning.tuned("k", {"m": 1}, [{"BLOCK": 1}, {"BLOCK": 2}], seen.append)
    assert seen == [{"BLOCK": 1}, {"BLOCK": 2}]
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_tuned_choices_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_choices", tuning.Choices())
    (tmp_path / "fake.json").write_text("{")
    assert "not a file of tuned choices" in str(use_tuned_choices("fake", tmp_path, "search"))


def test_what_fails_while_compiling_is_left_to_the_row() -> None:
    measurer = KernelMeasurer(Device(CPU_INSTEAD, FakeChip(steady(1e-3)), "cpu"))
    measurer.compile(op="copy", case={"elements": 8, "dtype": "fp32"}, backend="numpy", kernel="no such kernel")
