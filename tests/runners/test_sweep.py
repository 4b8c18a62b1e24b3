"""`chipassay sweep`: the figures of `predict` in a CSV, from any backend, whatever stops it in between."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from chipassay.results.errors import InputError
from chipassay.results.evidence import LEVELS
from chipassay.results.prices import given_price
from chipassay.results.shipped import find_profile
from chipassay.runners.cli import main
from chipassay.runners.sweep import backends, case
from chipassay.runners.sweep.sweep_file import read_sweep
from chipassay.scaling.cost import cost_of, run_cost
from chipassay.scaling.energy import energy_of
from chipassay.scaling.mixed.search import plan_mixed
from chipassay.scaling.plan import Plan
from chipassay.scaling.plan_text import parse_plan
from chipassay.scaling.predict import Prediction, predict
from chipassay.scaling.search import best_plan

PLAN = "tp=8,zero=1,sp=yes"
TEXT = f"""
model = ["gpt3-1.3b", "gpt3-13b"]
cluster = ["8xh100-sxm-80gb", "8xv100-sxm2-16gb"]
batch = [64, 128]
plan = ["best", "{PLAN}"]
price = "h100-sxm-80gb=2.5"
tokens = 1e11
"""
ROWS = 16
MANY = 'model = ["gpt3-1.3b", "gpt3-6.7b", "gpt3-13b"]\ncluster = "64xh100-sxm-80gb"\nbatch = ' + str(list(range(64, 64 * 65, 64)))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["sweep", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def row_of(path: Path, **wanted: str) -> dict[str, str]:
    (row,) = (row for row in rows_of(path) if all(row[name] == value for name, value in wanted.items()))
    return row


def test_a_row_holds_what_predict_says_of_the_same_case(capsys, tmp_path: Path, sweep: Path) -> None:
    out = tmp_path / "r.csv"
    assert run(capsys, sweep, "-o", out, "--jobs", 1)[0] == 0
    row = row_of(out, model="gpt3-13b", cluster="8xh100-sxm-80gb", batch="128", plan=PLAN)
    found = predict("gpt3-13b", "8xh100-sxm-80gb", Plan(global_batch=128, tp=8, zero_stage=1, sequence_parallel=True))
    price = given_price("h100-sxm-80gb", 2.5)
    cost, paid = cost_of(found, price), run_cost(found, 1e11, price)
    energy = energy_of(found, find_profile("h100-sxm-80gb"), tokens=1e11)
    expected = {
        **{name: getattr(found, name) for name in ("step_time_s", "low_s", "high_s", "tokens_per_s", "mfu", "hfu", "chips")},
        "memory_bytes": found.memory_total_bytes,
        "memory_limit_bytes": found.memory_limit_bytes,
        "usd_per_hour": cost.usd_per_hour,
        "usd_per_million_tokens": cost.usd_per_million_tokens,
        "days": paid.days,
        "days_low": paid.days_low,
        "days_high": paid.days_high,
        "usd": paid.usd,
        "joules_per_token": energy.joules_per_token,
        "kwh": energy.run_kwh,
    }
    weakest = next(level for level in reversed(LEVELS) if any(one.evidence.level == level for one in found.inputs))
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected, rel=1e-6)
    assert (row["status"], row["reason"], row["price"], row["evidence"]) == ("ok", "", "h100-sxm-80gb=2.5", weakest)


def test_the_best_plan_is_told_in_a_form_that_predict_takes(capsys, tmp_path: Path, sweep: Path) -> None:
    out = tmp_path / "r.csv"
    run(capsys, sweep, "-o", out, "--jobs", 1)
    row = row_of(out, model="gpt3-1.3b", cluster="8xh100-sxm-80gb", batch="64", plan="best")
    found: Prediction = best_plan("gpt3-1.3b", "8xh100-sxm-80gb", 64)
    assert parse_plan(row["plan_found"], int(row["batch_found"])) == found.plan
    assert float(row["step_time_s"]) == pytest.approx(found.step_time_s, rel=1e-6)


def test_what_is_refused_has_a_row_with_the_reason_and_its_memory(capsys, tmp_path: Path, sweep: Path) -> None:
    out = tmp_path / "r.csv"
    assert run(capsys, sweep, "-o", out, "--jobs", 1)[0] == 0
    searched = row_of(out, model="gpt3-13b", cluster="8xv100-sxm2-16gb", batch="64", plan="best")
    given = row_of(out, model="gpt3-13b", cluster="8xv100-sxm2-16gb", batch="64", plan=PLAN)
    assert "does not fit on 8xv100-sxm2-16gb" in searched["reason"]
    assert "does not fit" in given["reason"]
    for row in (searched, given):
        assert row["status"] == "refused"
        assert float(row["memory_bytes"]) > 17.18e9
        assert row["step_time_s"] == row["usd_per_hour"] == ""


def test_a_mix_of_chips_is_planned_and_each_kind_that_works_is_paid_for(capsys, tmp_path: Path) -> None:
    sweep, out, mix = tmp_path / "sweep.toml", tmp_path / "r.csv", "8xa100-sxm-80gb+8xv100-sxm2-32gb"
    sweep.write_text(
        f'model = "gpt3-1.3b"\nbatch = 64\ncluster = "{mix}"\nplan = ["best", "dp=16"]\nprice = "a100-sxm-80gb=2,v100-sxm2-32gb=1"\n',
        encoding="utf-8",
    )
    assert run(capsys, sweep, "-o", out, "--jobs", 1)[0] == 0
    best, given = row_of(out, plan="best"), row_of(out, plan="dp=16")
    found = plan_mixed("gpt3-1.3b", mix, 64).best
    assert float(best["step_time_s"]) == pytest.approx(found.step_time_s, rel=1e-6)
    assert best["plan_found"] == found.text
    usd = {"a100-sxm-80gb": 16.0, "v100-sxm2-32gb": 8.0}
    assert float(best["usd_per_hour"]) == sum(usd[kind] for kind in found.kinds)
    assert given["status"] == "refused"
    assert "for a mix of kinds write 'best'" in given["reason"]


def test_run_again_it_does_nothing_and_after_a_change_only_what_is_new(capsys, tmp_path: Path, sweep: Path) -> None:
    out = tmp_path / "r.csv"
    run(capsys, sweep, "-o", out, "--jobs", 1)
    before = out.read_bytes()
    code, told, _ = run(capsys, sweep, "-o", out, "--resume", "--jobs", 1)
    assert (code, out.read_bytes()) == (0, before)
    assert f"{ROWS} rows of this sweep, {ROWS} of them there before; nothing left to do" in told
    sweep.write_text(TEXT.replace("[64, 128]", "[64, 256]"), encoding="utf-8")
    code, told, _ = run(capsys, sweep, "-o", out, "--jobs", 1, "--json")
    counts = json.loads(told)
    assert (counts["rows"], counts["already"], counts["ok"] + counts["refused"]) == (ROWS, ROWS // 2, ROWS // 2)
    assert out.read_bytes().startswith(before)


def test_resume_wants_the_file_to_be_there(capsys, tmp_path: Path, sweep: Path) -> None:
    code, _, err = run(capsys, sweep, "-o", tmp_path / "no.csv", "--resume")
    assert code == 2
    assert "no.csv: is not there, so nothing can be gone on with" in err


def test_an_interrupt_keeps_the_rows_and_the_same_command_goes_on(capsys, tmp_path: Path, sweep: Path, monkeypatch) -> None:
    out = tmp_path / "r.csv"
    solve, done = case.solve, []

    def interrupted(one: case.Case):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(one)
        return solve(one)

    monkeypatch.setattr(backends, "solve", interrupted)
    code, _, err = run(capsys, sweep, "-o", out, "--jobs", 1)
    assert code == 130
    assert f"5 of {ROWS} rows are in {out}; the same command goes on with the rest" in err
    assert len(rows_of(out)) == 5
    monkeypatch.setattr(backends, "solve", solve)
    assert run(capsys, sweep, "-o", out, "--jobs", 1)[0] == 0
    keys = [row["key"] for row in rows_of(out)]
    assert len(keys) == len(set(keys)) == ROWS


def test_what_breaks_is_told_in_its_row_and_done_again_the_next_time(capsys, tmp_path: Path, sweep: Path, monkeypatch) -> None:
    out = tmp_path / "r.csv"
    with monkeypatch.context() as broken:
        broken.setattr(case, "_solved", lambda one: 1 / 0)
        assert run(capsys, sweep, "-o", out, "--jobs", 1)[0] == 1
    assert {(row["status"], row["reason"]) for row in rows_of(out)} == {("failed", "ZeroDivisionError: division by zero")}
    assert run(capsys, sweep, "-o", out, "--jobs", 1, "--sorted")[0] == 0
    assert [row["status"] for row in rows_of(out)].count("ok") + [row["status"] for row in rows_of(out)].count("refused") == ROWS


def test_a_worker_with_another_chipassay_says_so(sweep: Path, monkeypatch) -> None:
    one, *_ = read_sweep(sweep)
    monkeypatch.setattr(case, "model_version", lambda: "0.0.9 (abc)")
    assert {row.status for row in case.solve(one)} == {"failed"}
    assert "the worker has chipassay 0.0.9 (abc)" in case.solve(one)[0].reason


def test_progress_names_each_case_and_quiet_names_none(capsys, tmp_path: Path, sweep: Path) -> None:
    _, _, err = run(capsys, sweep, "-o", tmp_path / "r.csv", "--jobs", 1)
    assert f"[ 1/{ROWS}] gpt3-1.3b, 8xh100-sxm-80gb, batch 64, best: " in err
    assert err.count("\n") == ROWS
    assert run(capsys, sweep, "-o", tmp_path / "s.csv", "--jobs", 1, "--quiet")[2] == ""


@pytest.mark.parametrize("backend", ["loky", "threading", "dask"])
def test_every_backend_makes_the_rows_of_one_process(capsys, tmp_path: Path, sweep: Path, backend: str) -> None:
    alone, together = tmp_path / "alone.csv", tmp_path / "together.csv"
    run(capsys, sweep, "-o", alone, "--jobs", 1, "--sorted")
    code, _, _ = run(capsys, sweep, "-o", together, "--jobs", 2, "--backend", backend, "--sorted")
    assert code == 0
    assert together.read_text(encoding="utf-8") == alone.read_text(encoding="utf-8")


def test_a_running_dask_cluster_of_two_workers_is_used(capsys, tmp_path: Path, sweep: Path) -> None:
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        address = cluster.scheduler_address
        code, _, _ = run(capsys, sweep, "-o", tmp_path / "r.csv", "--backend", "dask", "--scheduler", address)
        with Client(address) as client:
            worked = client.run(lambda: "chipassay.runners.sweep.case" in __import__("sys").modules)
    assert code == 0
    assert len(rows_of(tmp_path / "r.csv")) == ROWS
    assert list(worked.values()) == [True, True]


def test_a_scheduler_that_is_not_there_is_named(capsys, tmp_path: Path, sweep: Path, monkeypatch) -> None:
    monkeypatch.setattr(backends, "CONNECT_S", 1)
    code, _, err = run(capsys, sweep, "-o", tmp_path / "r.csv", "--backend", "dask", "--scheduler", "tcp://127.0.0.1:9")
    assert code == 2
    assert "--scheduler tcp://127.0.0.1:9:" in err
    assert "give the address of a Dask scheduler" in err


def test_a_cluster_without_workers_is_refused(capsys, tmp_path: Path, sweep: Path, monkeypatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(backends, "CONNECT_S", 1)
    with LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as cluster:
        code, _, err = run(capsys, sweep, "-o", tmp_path / "r.csv", "--backend", "dask", "--scheduler", cluster.scheduler_address)
    assert code == 2
    assert "no worker after 1 seconds" in err


def test_a_ray_cluster_that_is_not_there_is_named_before_ray_tries_for_minutes() -> None:
    with pytest.raises(InputError, match=r"--scheduler 127\.0\.0\.1:9: .*; give the address of a Ray cluster"):
        next(backends._on_ray([], 1, "127.0.0.1:9"))


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: 80 MB that a sweep on one machine does not need")
def test_a_ray_cluster_of_two_workers_makes_the_rows_of_one_process(capsys, tmp_path: Path, sweep: Path) -> None:
    alone, together = tmp_path / "alone.csv", tmp_path / "together.csv"
    run(capsys, sweep, "-o", alone, "--jobs", 1, "--sorted")
    assert run(capsys, sweep, "-o", together, "--jobs", 2, "--backend", "ray", "--sorted")[0] == 0
    assert together.read_text(encoding="utf-8") == alone.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--backend", "ray"), "--backend ray needs joblib and ray, which is not installed; pip install ray joblib"),
        (("--backend", "dask"), "pip install 'chipassay[sweep]', or use --backend loky"),
        (("--jobs", "2"), "pip install 'chipassay[sweep]' or use --jobs 1"),
        (("--jobs", "2", "--scheduler", "h:1"), "loky runs on this machine alone; add --backend dask"),
        (("--jobs", "0"), "--jobs 0: give a number above 0"),
    ],
)
def test_without_its_packages_a_backend_is_refused_by_their_names(capsys, tmp_path, sweep, monkeypatch, arguments, part) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    code, _, err = run(capsys, sweep, "-o", tmp_path / "r.csv", *arguments)
    assert code == 2
    assert part in err
    assert not (tmp_path / "r.csv").exists()


def test_the_base_install_sweeps_in_one_process(capsys, tmp_path: Path, sweep: Path, monkeypatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert run(capsys, sweep, "-o", tmp_path / "r.csv")[0] == 0


@pytest.fixture(params=["loky", "dask"])
def running(tmp_path: Path, request) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A sweep of nearly 200 cases in a session of its own, as from a terminal, and its CSV with the first rows in it."""
    sweep, out = tmp_path / "many.toml", tmp_path / "r.csv"
    sweep.write_text(MANY, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "chipassay.runners.cli",
        "sweep",
        sweep,
        "-o",
        out,
        "--jobs",
        "2",
        "--backend",
        request.param,
        "--quiet",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    begin_s = time.monotonic()
    while process.poll() is None and not (out.exists() and out.read_text(encoding="utf-8").count("\n") > 3):
        assert time.monotonic() - begin_s < 60
        time.sleep(0.01)
    yield process, out
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_in_a_terminal_ends_workers_without_a_word_of_theirs(running) -> None:
    process, out = running
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "chipassay: interrupted\n"
    assert 3 <= len(rows_of(out)) < 192


def test_a_sweep_that_is_killed_leaves_whole_rows_and_no_worker(running) -> None:
    process, out = running
    process.kill()
    process.communicate(timeout=30)  # standard error ends when the last worker has ended
    assert {row["status"] for row in rows_of(out)} == {"ok"}


def test_two_sweeps_on_dask_at_once_do_not_quarrel_over_a_port(recwarn) -> None:
    with backends._dask_client(1, None), backends._dask_client(1, None):
        pass
    assert not [str(one.message) for one in recwarn if "already in use" in str(one.message)]
