"""Each GPU alone: what its process sees, what its rows say, and what one that does not answer costs. Against stand-ins."""

from __future__ import annotations

import argparse

import pytest

from chipassay.results.errors import FileError, InputError, NothingMeasured
from chipassay.results.table import read_rows
from chipassay.runners import crew as crew_module
from chipassay.runners.commands.measuring import gpus
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.each_gpu import run_each
from chipassay.runners.options import RunOptions
from chipassay.runners.run import Run
from chipassay.runners.suites import load_suite
from chipassay.runners.workers.client import WorkerDied

from .test_run import CPU_INSTEAD, SUITE, FakeWorkers

FOUR = DeviceFacts("cuda", "Fake GPU", "fake-gpu", 4, 10**9, 10**6, "1.0")


class DeadWorkers(FakeWorkers):
    def ask(self, request, timeout_s):
        raise WorkerDied("it fell off the bus")


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measures GPUs ``wanted``; returns the outcome and the environments of the processes that were started for it."""
    (tmp_path / "s.toml").write_text(SUITE)
    started = []

    def go(wanted, *, facts=FOUR, dead=(), environ=None, **options):
        def start(kind, folder, tuning, environment):
            started.append(dict(environment))
            return DeadWorkers({}) if environment.get("CUDA_VISIBLE_DEVICES") in dead else FakeWorkers({}, facts)

        monkeypatch.setattr(crew_module, "start_worker", start)
        given = RunOptions(**{"suite": str(tmp_path / "s.toml"), "out": tmp_path / "out.csv", "rounds": 1, **options})
        run = lambda own: Run(own, lambda *_: None, lambda *_: None).execute()  # noqa: E731
        return run_each(wanted, given, run, lambda words: None, environ or {}), started

    return go


def test_every_gpu_has_every_case_and_one_run(measure, tmp_path):
    outcome, started = measure("all")
    rows = read_rows(tmp_path / "out.csv")
    assert [(row.device_index, row.elements) for row in rows] == [(gpu, n) for gpu in range(4) for n in (1, 2, 3, 4)]
    assert len({row.run_id for row in rows}) == 1
    assert len(outcome.rows) == 16
    assert started == [{}, *({"CUDA_VISIBLE_DEVICES": str(gpu)} for gpu in range(4))]


def test_rows_name_the_drivers_number_where_the_user_chose_gpus(measure):
    outcome, started = measure((1,), environ={"CUDA_VISIBLE_DEVICES": "6,7,0,1"})
    assert {row.device_index for row in outcome.rows} == {7}
    assert started[-1] == {"CUDA_VISIBLE_DEVICES": "7"}


def test_a_dead_gpu_costs_its_own_rows_and_is_named(measure, tmp_path):
    with pytest.raises(NothingMeasured, match=r"GPU 2: no device could be opened: it fell off the bus.*the rows of the others are in"):
        measure("all", dead=("2",))
    assert {row.device_index for row in read_rows(tmp_path / "out.csv")} == {0, 1, 3}


def test_a_file_that_is_there_is_not_gone_on_with_unasked(measure):
    measure((0,))
    with pytest.raises(FileError, match="already exists; go on with it by --resume"):
        measure((1,), dead=("1",))


def test_resume_measures_the_gpus_that_are_missing(measure, tmp_path):
    measure((0, 1))
    outcome, _ = measure("all", resume=True)
    assert sorted({row.device_index for row in outcome.rows}) == [0, 1, 2, 3]
    assert len(read_rows(tmp_path / "out.csv")) == 16


def test_a_cpu_has_no_siblings_to_measure(measure):
    with pytest.raises(InputError, match=r"--gpus is for NVIDIA and AMD GPUs; what is measured here is A CPU \(cpu\)"):
        measure("all", facts=CPU_INSTEAD)


def test_the_suite_of_siblings_says_that_it_has_nothing_for_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(crew_module, "start_worker", lambda *_: FakeWorkers({}, CPU_INSTEAD))
    with pytest.raises(InputError, match="suite siblings has nothing for a cpu; what is measured here is A CPU"):
        Run(RunOptions(suite="siblings", out=tmp_path / "out.csv"), lambda *_: None, lambda *_: None).execute()


def test_a_gpu_that_is_not_there_is_named(measure):
    with pytest.raises(InputError, match="--gpus 4: there are 4, counted from 0"):
        measure((0, 4))


@pytest.mark.parametrize("text", ["", "one", "0,0", "-1", "1,,2", "٣"])
def test_words_that_name_no_gpus_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="names no GPUs; write all"):
        gpus(text)


def test_collectives_are_left_to_a_run_over_all_gpus(measure, tmp_path):
    mixed = tmp_path / "mixed.toml"
    mixed.write_text(SUITE + '\n[[block]]\nop = "all_reduce"\nranks = "all"\ndtype = ["fp32"]\nsize_bytes = [8]\n')
    outcome, _ = measure((0,), suite=str(mixed))
    assert {row.op for row in outcome.rows} == {"copy"}


def test_the_suite_of_siblings_has_what_tells_a_slow_one():
    suite = load_suite("siblings", "cuda", frozenset({"bf16", "fp32", "int8"}))
    assert {wanted.op for wanted in suite.wanted} == {"matmul", "copy", "transfer", "launch"}
