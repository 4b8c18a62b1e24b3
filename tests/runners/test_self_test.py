"""`chipassay compare --self-test`: a machine held against itself, with a shift between its runs that is known."""

from __future__ import annotations

import json
import math
import random
from types import SimpleNamespace

import pytest

from chipassay.results.compare.comparison import THRESHOLDS, Settings
from chipassay.results.errors import InputError, NothingMeasured
from chipassay.results.schema import Row
from chipassay.runners import run as run_module
from chipassay.runners.cli import main
from chipassay.runners.comparison.false_alarms import exact_interval, needed_threshold, self_test
from chipassay.runners.comparison.markdown import markdown
from chipassay.runners.comparison.self_test import closing, measure_runs, self_test_view
from chipassay.runners.comparison.terminal import terminal
from chipassay.runners.options import RunOptions


def rows(shift, run_id, seed, ops=("copy", "matmul"), cases=10):
    """A run whose every row takes ``shift`` times as long as it should, with 0.5 % of noise on 30 samples."""
    noise = random.Random(seed)
    found = []
    for op in ops:
        for case in range(cases):
            samples_s = tuple(1e-3 * (case + 1) * shift * math.exp(noise.gauss(0, 0.005)) for _ in range(30))
            shape = {"m": 256, "n": 256, "k": 64 * (case + 1)} if op == "matmul" else {"elements": 1024 * (case + 1)}
            found.append(
                Row(
                    op=op,
                    dtype="fp32",
                    kernel="k",
                    backend="torch",
                    status="ok",
                    chip_id="cpu-x",
                    device_kind="cpu",
                    run_id=run_id,
                    method_version=1,
                    time_median_s=sorted(samples_s)[15],
                    samples_s=samples_s,
                    sample_count=30,
                    **shape,
                )
            )
    return found


def machine(shifts):
    return [rows(shift, f"run-{i}", i) for i, shift in enumerate(shifts)]


@pytest.fixture(scope="module")
def steady():
    return self_test(machine([1.0] * 6), Settings())


@pytest.fixture(scope="module")
def shifting():
    """Every other run takes 8 % longer: a difference between single runs of the same code that is none of the code's."""
    return self_test(machine([1.0, 1.08, 1.0, 1.0, 1.08, 1.08]), Settings())


def of(alarms, kind):
    return next(one for one in alarms if one.kind == kind)


def test_a_steady_machine_raises_no_alarm_and_needs_no_other_threshold(steady):
    for found in (*steady.single, *steady.pooled):
        assert found.false == 0
        assert found.needed < 0.03
    assert "the usual thresholds hold for single runs" in closing(steady)
    assert steady.cases == 20


def test_counts_are_of_comparisons_that_use_each_run_once_and_shifts_of_all_pairs(steady):
    assert of(steady.single, "all").judged == 3 * 20
    assert of(steady.single, "all").pairs == 15 * 20
    assert of(steady.single, "compute").judged == 3 * 10
    assert of(steady.pooled, "all").judged == 20
    assert of(steady.pooled, "all").pairs == 10 * 20


def test_a_shift_between_runs_is_seen_as_large_as_it_is(shifting):
    found = of(shifting.single, "memory")
    # Runs 0 and 3 are alike; 1 against 4 are, too; 2 against 5 differ: one comparison in three.
    assert (found.judged, found.false) == (30, 10)
    assert found.rate == pytest.approx(1 / 3)
    assert found.low < 1 / 3 < found.high
    # The shift itself, and what noise of 0.5 % on medians of 30 (0.1 % each) adds to the largest of hundreds.
    assert found.shift_most == pytest.approx(0.08, abs=0.01)
    assert found.needed == pytest.approx(0.08, abs=0.01)
    assert found.threshold == THRESHOLDS["memory"]


def test_the_threshold_that_is_recommended_would_have_kept_the_alarms_away(shifting):
    needed = {found.kind: found.needed for found in shifting.single if found.threshold is not None}
    again = self_test(machine([1.0, 1.08, 1.0, 1.0, 1.08, 1.08]), Settings(thresholds={**THRESHOLDS, **needed}))
    found = of(again.single, "all")
    assert found.false / found.judged < 0.01
    words = closing(shifting)
    assert "do not trust a single-run difference under" in words
    assert f"memory={100 * needed['memory']:g}%" in words


def test_a_machine_whose_runs_are_nothing_alike_is_told_so_and_given_no_threshold():
    words = closing(self_test(machine([1.0, 2.0, 1.0, 4.0]), Settings()))
    assert "nothing can be compared (compute, memory): runs of the same code differed by up to 4" in words
    assert "--threshold" not in words


def test_the_smallest_threshold_lets_less_than_one_percent_pass():
    # 1 of 100 is one percent, so none may pass; of 101 one may.
    assert needed_threshold([1.05, 1.02], 100) == pytest.approx(0.05, abs=0.0011)
    assert needed_threshold([1.05, 1.02], 101) == pytest.approx(0.02, abs=0.0011)
    # Faster counts as slower does: a ratio of 1 / 1.05 is as far off.
    assert needed_threshold([1 / 1.05], 10) == pytest.approx(0.05, abs=0.0011)


def test_the_interval_is_the_rule_of_three_where_nothing_was_seen():
    # Exactly 1 - 0.025^(1/n): for no success in n the upper end of a two-sided 95 % interval.
    assert exact_interval(0, 100) == (0.0, pytest.approx(1 - 0.025 ** (1 / 100)))


def test_too_few_runs_or_runs_without_a_common_case_are_told():
    with pytest.raises(InputError, match="at least 4; there are 2"):
        self_test(machine([1.0, 1.0]), Settings())
    apart = [rows(1.0, f"r{i}", i, ops=(f"op{i}",)) for i in range(4)]
    with pytest.raises(InputError, match="no case was measured in two runs"):
        self_test(apart, Settings())


def test_cases_that_some_runs_had_no_time_for_are_counted():
    runs = machine([1.0] * 4)
    runs[3] = runs[3][:12]
    found = self_test(runs, Settings())
    assert (found.cases, found.everywhere) == (20, 12)
    assert "8 of 20 cases were not measured in every run" in terminal([self_test_view(found)])


def test_it_is_told_as_table_and_as_markdown(shifting):
    text = terminal([self_test_view(shifting)])
    assert "One run against one (300 pairs of rows)" in text
    assert "10 of 30" in text
    assert "not measured in every run" not in text
    assert "3 runs against 3, pooled" in text
    assert "| memory | 10 of 30 |" in markdown([self_test_view(shifting)])


class FakeRun:
    """In place of `Run`: rows of a known machine, and a note of what was asked for."""

    asked: list[RunOptions] = []  # noqa: RUF012 (emptied by the fixture)
    shifts = (1.0, 1.08, 1.0, 1.0, 1.08, 1.08)
    interrupted = False
    good = True

    def __init__(self, options, announce, report):
        self.options = options

    def execute(self):
        position = len(self.asked)
        self.asked.append(self.options)
        found = rows(self.shifts[position], f"run-{position}", position)
        if not self.good:
            found = [Row(op="copy", status="skipped", reason="no such dtype")]
        return SimpleNamespace(rows=found, interrupted=self.interrupted, wall_s=1.0)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(FakeRun, "asked", [])
    monkeypatch.setattr(run_module, "Run", FakeRun)
    return FakeRun


def test_runs_share_the_budget_visit_once_tune_nothing_and_leave_no_file(fake):
    told = []
    found = measure_runs(RunOptions(only=("copy",)), 6, 60.0, told.append)
    assert len(found) == 6
    assert all((asked.rounds, asked.tune, asked.only) == (1, False, ("copy",)) for asked in fake.asked)
    assert {asked.budget_s for asked in fake.asked} == {10.0}
    assert len({asked.out for asked in fake.asked}) == 6
    assert not any(asked.out.parent.exists() for asked in fake.asked)
    assert told[1] == "run 2 of 6 (B): 20 of 20 cases in 1 s"


def test_a_machine_that_measures_nothing_is_told_and_ctrl_c_ends_it(fake, monkeypatch):
    monkeypatch.setattr(fake, "good", False)
    with pytest.raises(NothingMeasured, match="no case could be measured \\(skipped: no such dtype\\)"):
        measure_runs(RunOptions(), 6, 60.0, lambda words: None)
    monkeypatch.setattr(fake, "interrupted", True)
    with pytest.raises(KeyboardInterrupt):
        measure_runs(RunOptions(), 6, 60.0, lambda words: None)


def test_the_command_gives_one_json_object_and_refuses_what_has_no_meaning(fake, capsys):
    assert main(["compare", "--self-test", "--budget", "60s", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == 6
    assert found["single"][-1]["kind"] == "all"
    assert found["single"][-1]["rate"] == pytest.approx(1 / 3)
    assert "do not trust" in found["summary"]
    for arguments in (["--format", "csv"], ["--fail-on", "slower"], ["a.csv"]):
        assert main(["compare", "--self-test", *arguments]) == 2
        assert "--self-test" in capsys.readouterr().err
