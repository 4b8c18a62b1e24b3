"""A run against a fake measuring process: resume, budget, a lost chip, Ctrl-C; then a real small one, killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from chipassay.results.errors import FileError, InputError, NothingMeasured, UnknownName
from chipassay.results.table import read_rows
from chipassay.runners import crew as crew_module
from chipassay.runners import run as run_module
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.options import RunOptions
from chipassay.runners.run import Run
from chipassay.runners.workers.client import WorkerDied, WorkerTimeout

SUITE = """
min_time_s = 0.01
[[block]]
op = "copy"
backends = ["torch"]
dtype = ["fp32"]
elements = [1, 2, 3, 4]
"""

FACTS = DeviceFacts("cuda", "Fake GPU", "fake-gpu", 1, 10**9, 10**6, "1.0")


CPU_INSTEAD = DeviceFacts("cpu", "A CPU", "cpu-a", 1, 10**9, 10**6, "1.0")


class FakeWorkers:
    """Answers like the measuring process; ``behaviour`` maps elements to a row, an exception, or the message of a lost chip."""

    backends = {"torch": None, "triton": "not installed", "numpy": "CPU only"}  # noqa: RUF012 (a stand-in's answer)

    def __init__(self, behaviour, facts=FACTS):
        self.behaviour, self.facts = behaviour, facts
        self.asked, self.checked, self.requests, self.timeouts_s = [], [], [], []

    def ask(self, request, timeout_s):
        if request is None:
            return {"facts": self.facts.to_dict(), "backends": self.backends}
        if "questions" in request:
            answers = [
                {"kernels": [("copy_", None)], "columns": {"op": q["op"], **q["case"]}, "launch": q["launch"]} for q in request["questions"]
            ]
            return {"answers": answers}
        elements = request["case"]["elements"]
        self.asked.append(elements)
        self.checked.append(request["checked"])
        self.requests.append(request)
        self.timeouts_s.append(timeout_s)
        what = self.behaviour.get(elements, "fine")
        what = what() if callable(what) else what
        if isinstance(what, BaseException):
            raise what
        if what != "fine":
            return {"row": {"status": "error", "reason": what}, "device_lost": what}
        row = {"status": "ok", "time_median_s": 1e-3, "time_min_s": 1e-3, "measuring_s": 0.5, "samples_s": [1e-3]}
        return {"row": row, "device_lost": None}

    def stop(self):
        pass


@pytest.fixture
def execute(tmp_path, monkeypatch):
    (tmp_path / "s.toml").write_text(SUITE)

    def go(behaviour=None, facts=FACTS, later=None, **options):
        fake = FakeWorkers(behaviour or {}, facts)
        starts = iter([fake])
        # ``later``: what a process started afterwards finds.
        monkeypatch.setattr(crew_module, "start_worker", lambda *_: next(starts, later or fake))
        given = {"suite": str(tmp_path / "s.toml"), "out": tmp_path / "out.csv", "rounds": 1, **options}
        outcome = Run(RunOptions(**given), lambda *_: None, lambda *_: None).execute()
        return outcome, fake

    return go


def elements_of(rows):
    return [row.elements for row in rows]


def test_every_case_becomes_one_row(execute, tmp_path):
    outcome, _ = execute()
    rows = read_rows(tmp_path / "out.csv")
    assert elements_of(rows) == [1, 2, 3, 4]
    assert {row.chip_id for row in rows} == {"fake-gpu"}
    assert len({row.run_id for row in rows}) == 1
    assert outcome.measuring_s == 2.0


def test_resume_measures_only_what_is_missing(execute, tmp_path):
    execute()
    path = tmp_path / "out.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:20])
    outcome, fake = execute(resume=True)
    assert fake.asked == [3, 4]
    assert elements_of(read_rows(path)) == [1, 2, 3, 4]
    assert len({row.run_id for row in outcome.rows}) == 1


def test_resume_of_a_whole_file_measures_nothing(execute):
    execute()
    outcome, fake = execute(resume=True)
    assert fake.asked == []
    assert len(outcome.rows) == 4


def test_a_file_that_exists_is_not_written_over(execute):
    execute()
    with pytest.raises(FileError, match="already exists; go on with it by --resume"):
        execute()


def test_resume_on_another_chip_is_refused(execute):
    execute()
    with pytest.raises(FileError, match="was measured on fake-gpu, this is other-gpu"):
        execute(facts=DeviceFacts("cuda", "Other", "other-gpu", 1, 10**9, 10**6, "1.0"), resume=True)


def test_resume_on_another_machine_is_refused(execute, monkeypatch):
    execute()
    monkeypatch.setattr(run_module, "host_hash", lambda: "another")
    with pytest.raises(FileError, match="was measured on another machine of this kind"):
        execute(resume=True)


def test_a_crash_and_a_hang_cost_one_row_each_and_resume_tries_them_again(execute, tmp_path):
    outcome, _ = execute({2: WorkerDied("the measuring process crashed (SIGSEGV)"), 3: WorkerTimeout("no answer within 9 s")})
    assert [row.status for row in outcome.rows] == ["ok", "error", "timeout", "ok"]
    assert "SIGSEGV" in outcome.rows[1].reason
    outcome, fake = execute(resume=True)
    assert fake.asked == [2, 3]
    assert [row.status for row in outcome.rows] == ["ok"] * 4
    assert read_rows(tmp_path / "out.csv") == list(outcome.rows)


def test_a_child_killed_for_memory_is_out_of_memory(execute):
    outcome, _ = execute({2: WorkerDied("the measuring process was killed by the system: out of memory")})
    assert outcome.rows[1].status == "out_of_memory"


def test_a_child_that_somebody_kills_is_an_error(execute):
    outcome, _ = execute({2: WorkerDied("the measuring process was killed (signal 9)")})
    assert outcome.rows[1].status == "error"


def test_a_chip_that_vanishes_ends_the_run_with_everything_before_it_safe(execute, tmp_path):
    with pytest.raises(NothingMeasured, match=r"Fake GPU went away \(fell off the bus\) after 3 rows.*--resume") as caught:
        execute({3: "fell off the bus"}, later=FakeWorkers({}, CPU_INSTEAD))
    assert caught.value.exit_code == 3
    assert [row.status for row in read_rows(tmp_path / "out.csv")] == ["ok", "ok", "error"]
    _, fake = execute(resume=True)
    assert fake.asked == [3, 4]


def test_a_kernel_that_poisons_its_process_costs_one_row_when_a_fresh_process_finds_the_chip(execute):
    outcome, fake = execute({3: "illegal memory access"})
    assert [row.status for row in outcome.rows] == ["ok", "ok", "error", "ok"]
    assert outcome.rows[2].reason == "illegal memory access"
    assert fake.asked == [1, 2, 3, 4]


@pytest.mark.parametrize("content", ["", "schema_version,run_"])
def test_a_file_without_a_whole_header_is_begun_anew_by_resume(execute, tmp_path, content):
    (tmp_path / "out.csv").write_text(content)
    _, fake = execute(resume=True)
    assert fake.asked == [1, 2, 3, 4]
    assert elements_of(read_rows(tmp_path / "out.csv")) == [1, 2, 3, 4]


def test_an_op_that_a_suite_misspells_is_told(execute, tmp_path):
    (tmp_path / "bad.toml").write_text('[[block]]\nop = "matmull"\nbackends = ["torch"]\nm = [1]\n')
    with pytest.raises(UnknownName, match="unknown op 'matmull'; did you mean matmul"):
        execute(suite=str(tmp_path / "bad.toml"))


def test_interrupting_keeps_what_was_measured(execute, tmp_path):
    outcome, _ = execute({3: KeyboardInterrupt()})
    assert outcome.interrupted
    assert elements_of(read_rows(tmp_path / "out.csv")) == [1, 2]


def test_a_suite_whose_times_are_a_by_product_caps_them(execute, tmp_path):
    (tmp_path / "s.toml").write_text("time_cap_s = 0.1" + SUITE)
    _, fake = execute(budget_s=1000.0)
    assert {request["time_cap_s"] for request in fake.requests} == {0.1}
    _, fake = execute(out=tmp_path / "without_a_budget.csv")
    assert {request["time_cap_s"] for request in fake.requests} == {0.1}


def test_a_spent_budget_is_said_in_the_row_and_resume_measures_the_rest(execute, tmp_path):
    outcome, _ = execute(budget_s=0.0)
    assert {row.status for row in outcome.rows} == {"skipped"}
    assert "budget was spent" in outcome.rows[0].reason
    _, fake = execute(resume=True)
    assert fake.asked == [1, 2, 3, 4]


def test_a_search_cut_off_by_the_end_of_the_budget_is_no_fault_of_its_kernel(execute, tmp_path, monkeypatch):
    (tmp_path / "s.toml").write_text(SUITE.replace('["torch"]', '["triton"]'))
    monkeypatch.setattr(FakeWorkers, "backends", {"torch": None, "triton": None})
    now_s = [0.0]
    monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))

    def searches_until(end_s):
        def search():
            now_s[0] = end_s
            return WorkerTimeout("no answer within 99 s")

        return search

    outcome, _ = execute({2: searches_until(50.0), 3: searches_until(130.0)}, budget_s=100.0)
    assert [row.status for row in outcome.rows] == ["ok", "timeout", "skipped", "skipped"]
    assert "while it was tuned" in outcome.rows[2].reason


def test_each_case_is_visited_once_before_any_is_visited_again(execute, tmp_path):
    outcome, fake = execute(rounds=2)
    assert fake.asked == [1, 2, 3, 4, 1, 2, 3, 4]
    rows = read_rows(tmp_path / "out.csv")
    assert elements_of(rows) == [1, 2, 3, 4]
    assert {row.round_count for row in rows} == {2}
    assert rows == list(outcome.rows)
    assert outcome.measuring_s == 4.0


def test_only_the_first_visit_checks_the_result(execute):
    _, fake = execute(rounds=2)
    assert fake.checked == [False] * 4 + [True] * 4


def test_launch_and_sustain_reach_the_measuring_process(execute, tmp_path):
    _, fake = execute(launch=("stream", "graph"), sustain_s=30.0)
    assert fake.asked == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [request["launch"] for request in fake.requests] == ["stream", "graph"] * 4
    assert {request["sustain_s"] for request in fake.requests} == {30.0}
    assert [row.launch for row in read_rows(tmp_path / "out.csv")] == ["stream", "graph"] * 4
    assert min(fake.timeouts_s) > 30.0


def test_a_budget_that_cannot_hold_what_is_to_be_sustained_is_refused(execute):
    with pytest.raises(InputError, match="4 cases sustained for 30 s each do not fit into a budget of 100 s; choose some with --only"):
        execute(sustain_s=30.0, budget_s=100.0)
    _, fake = execute(sustain_s=1.0, budget_s=100.0)
    assert fake.asked == [1, 2, 3, 4]


def test_with_a_budget_kernels_that_may_be_tuned_come_last(execute, tmp_path, monkeypatch):
    (tmp_path / "two.toml").write_text(SUITE.replace('["torch"]', '["triton", "torch"]'))
    monkeypatch.setattr(FakeWorkers, "backends", {"torch": None, "triton": None})
    _, fake = execute(suite=str(tmp_path / "two.toml"), budget_s=100.0)
    assert [request["backend"] for request in fake.requests] == ["torch"] * 4 + ["triton"] * 4
    assert min(fake.timeouts_s[4:]) > max(fake.timeouts_s[:4]) + 60.0
    _, fake = execute(suite=str(tmp_path / "two.toml"), out=tmp_path / "plain.csv")
    assert [request["backend"] for request in fake.requests] == ["torch", "triton"] * 4


def test_a_run_cut_short_in_its_second_round_goes_on_there(execute, tmp_path):
    calls = iter(range(100))
    outcome, _ = execute({2: lambda: KeyboardInterrupt() if next(calls) == 1 else "fine"}, rounds=2)
    assert outcome.interrupted
    assert [row.round_count for row in read_rows(tmp_path / "out.csv")] == [2, 1, 1, 1]
    _, fake = execute(rounds=2, resume=True)
    assert fake.asked == [2, 3, 4]
    assert [row.round_count for row in read_rows(tmp_path / "out.csv")] == [2, 2, 2, 2]


def test_a_failed_second_visit_keeps_the_first_and_says_so(execute, tmp_path):
    calls = iter(range(100))
    execute({3: lambda: WorkerTimeout("no answer within 9 s") if next(calls) == 1 else "fine"}, rounds=2)
    row = read_rows(tmp_path / "out.csv")[2]
    assert (row.status, row.round_count) == ("ok", 1)
    assert "a later visit ended as timeout: no answer within 9 s" in row.reason


def test_what_failed_in_the_first_round_is_not_tried_in_the_second(execute):
    _, fake = execute({3: WorkerDied("the measuring process crashed (SIGSEGV)")}, rounds=2)
    assert fake.asked == [1, 2, 3, 4, 1, 2, 4]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"only": ("mtmul",)}, "unknown op 'mtmul'; did you mean matmul"),
        ({"backends": ("tritn",)}, "unknown backend 'tritn'; did you mean triton"),
        ({"suite": "quik"}, "unknown suite 'quik'; did you mean quick"),
        ({"only": ("matmul",)}, "has no matmul for this device"),
    ],
)
def test_a_wrong_name_gets_the_nearest_one(execute, options, complaint):
    with pytest.raises(InputError, match=complaint):
        execute(**options)
    with pytest.raises((UnknownName, InputError)):
        execute(**options)


REAL = """
min_time_s = 0.05
[[block]]
op = "copy"
backends = ["numpy"]
dtype = ["fp32"]
elements = [1000, 2000, 3000, 4000, 5000, 6000]
"""


def test_a_real_run_killed_in_the_middle_is_finished_by_resume(tmp_path):
    (tmp_path / "s.toml").write_text(REAL)
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "chipassay.runners", "run", "--device", "cpu", "--suite", str(tmp_path / "s.toml")]
    command += ["--out", str(out), "--rounds", "2"]
    child = subprocess.Popen([*command, "--quiet"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out.exists() and out.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = read_rows(out)
    assert 2 <= len(before) < 12
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = read_rows(out)
    assert elements_of(rows) == [1000, 2000, 3000, 4000, 5000, 6000]
    assert {row.run_id for row in rows} == {before[0].run_id}
    assert all((row.status, row.round_count) == ("ok", 2) for row in rows)
    # What was measured before the kill is in the final rows, not measured anew.
    for old, new in zip(before[:6], rows, strict=False):
        assert set(old.samples_s[:1]) <= set(new.samples_s)
