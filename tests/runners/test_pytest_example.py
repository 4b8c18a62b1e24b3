"""The example project of runners/examples/pytest_project: its tests run as they stand, and so do the steps of its workflow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from chipassay.results.table import read_rows

PROJECT = Path(__file__).parents[2] / "runners" / "examples" / "pytest_project"
WORKFLOW = (PROJECT / "benchmark.yml").read_text(encoding="utf-8")
BASH, GIT = shutil.which("bash"), shutil.which("git")


def environment(**more: str) -> dict[str, str]:
    """This process's, less what CI may have set for pytest itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | more


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A copy of the project after one short run of its tests, and what pytest printed."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("example") / "project"
    shutil.copytree(PROJECT, folder)
    command = [sys.executable, "-m", "pytest", "--benchmark-json=rows.json", "--chipassay-csv=rows.csv", "--benchmark-max-time=0.1"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_its_tests_pass_and_each_has_a_row(measured):
    folder, output = measured
    rows = read_rows(folder / "rows.csv")
    assert [(row.op, row.variant) for row in rows if row.status == "ok"][:3] == [
        ("matmul", "size=256"),
        ("matmul", "size=512"),
        ("copy", None),
    ]
    assert {row.status for row in rows} <= {"ok", "skipped"}
    assert "chipassay: device=auto" in output
    assert f"on {rows[0].device_name} ({rows[0].chip_id}); rows in rows.csv" in output


def test_its_rows_hold_what_was_told_and_what_was_measured(measured):
    product = read_rows(measured[0] / "rows.csv")[0]
    assert (product.m, product.n, product.k, product.dtype, product.cache, product.kernel) == (
        256, 256, 256, "fp32", "cold", "test_kernels.py::test_matmul",
    )  # fmt: skip
    assert product.rate_flops_per_s == pytest.approx(2 * 256**3 / product.time_median_s)
    assert 0 <= product.error <= product.error_limit
    assert product.host_hash
    assert "torch=" in product.libraries


def test_its_numpy_function_is_measured_on_the_host_whatever_the_chip(measured):
    row = next(row for row in read_rows(measured[0] / "rows.csv") if row.op == "standardised")
    assert (row.device_kind, row.clock_source, row.launch) == ("cpu", "host", "call")


def test_pytest_benchmarks_json_holds_the_same_rows(measured):
    from chipassay.runners.reading import read_any

    folder, _ = measured
    ok = [row for row in read_rows(folder / "rows.csv") if row.status == "ok"]
    saved = read_any([folder / "rows.json"])
    assert [(row.kernel, row.variant, row.samples_s) for row in saved] == [(row.kernel, row.variant, row.samples_s) for row in ok]


def test_the_workflow_may_only_read_and_needs_no_secret():
    assert "on: pull_request\n" in WORKFLOW
    assert "\npermissions:\n  contents: read\n" in WORKFLOW
    assert "secrets" not in WORKFLOW
    assert "pull_request_target" not in WORKFLOW
    # One `persist-credentials` for each checkout: the code of a pull request must not find a token in .git.
    assert WORKFLOW.count("actions/checkout@") == WORKFLOW.count("persist-credentials: false") == 1


def test_actions_are_pinned_by_major_version():
    actions = re.findall(r"uses: (\S+)", WORKFLOW)
    assert actions
    assert [action for action in actions if not re.fullmatch(r"actions/[a-z-]+@v\d+", action)] == []


def step(name: str) -> str:
    """The shell lines of a step of the workflow."""
    block = WORKFLOW.partition(f"- name: {name}\n")[2]
    one_line = re.match(r"\s*run: (?!\|)(.*)\n", block)
    if one_line:
        return one_line[1]
    body = re.match(r"\s*run: \|\n((?: {10}.*\n)+)", block)
    assert body is not None, name
    return textwrap.dedent(body[1])


def shell(folder: Path, script: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run lines as GitHub's ``run`` does, with the flags that it gives bash."""
    if BASH is None or GIT is None:
        pytest.skip("needs bash and git")
    command = [BASH, "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment(**more), capture_output=True, text=True, check=False, timeout=300)


def measure(folder: Path, turns: int) -> subprocess.CompletedProcess[str]:
    options = "-k standardised --chipassay-device=cpu --benchmark-max-time=0.3"
    return shell(folder, step("Measure in turns"), TURNS=str(turns), PYTEST_ADDOPTS=options)


@pytest.fixture(scope="module")
def checked_out(tmp_path_factory):
    """``new``: a merge of a slower ``standardised``; ``base``: what the workflow's own step makes. Both environments are this one."""
    folder = tmp_path_factory.mktemp("workflow")
    shutil.copytree(PROJECT, folder / "new")
    tests = folder / "new" / "test_kernels.py"
    fast = tests.read_text(encoding="utf-8")
    slow = fast.replace("    return (rows", "    for _ in range(600):\n        rows = rows + 0.0\n        rows.std()\n    return (rows")
    assert slow != fast
    git = "git -C new -c user.name=A -c user.email=a@example.org"
    done = shell(folder, f"git init -q new && {git} add . && {git} commit -qm base && {git} checkout -qb fork")
    assert done.returncode == 0, done.stderr
    tests.write_text(slow, encoding="utf-8")
    done = shell(folder, f"{git} commit -qam slower && {git} checkout -q - && {git} merge -q --no-ff -m merged fork")
    assert done.returncode == 0, done.stderr
    done = shell(folder, step("What it is merged into"))
    assert done.returncode == 0, done.stderr
    assert (folder / "base" / "test_kernels.py").read_text(encoding="utf-8") == fast
    assert tests.read_text(encoding="utf-8") == slow
    for side in ("base", "new"):
        programs = folder / f"env-{side}" / "bin"
        programs.mkdir(parents=True)
        for name, arguments in (("python", ""), ("chipassay", "-m chipassay.runners")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            (programs / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def in_turns(checked_out):
    done = measure(checked_out, turns=2)  # hundreds of times slower: certain where the machine stands still for one of the runs, too
    assert done.returncode == 0, done.stdout + done.stderr
    return checked_out


def test_the_workflow_measures_base_and_new_in_turns(in_turns):
    files = sorted((in_turns / "results").rglob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    assert [file.relative_to(in_turns / "results").as_posix() for file in files] == [
        "base/1.json", "new/1.json", "base/2.json", "new/2.json",
    ]  # fmt: skip


def test_a_slower_pull_request_fails_and_the_summary_says_what(in_turns):
    pytest.importorskip("chipassay.results.compare.compare")
    summary = in_turns / "summary.md"
    done = shell(in_turns, step("Compare"), GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "SLOWER" in summary.read_text(encoding="utf-8")


def test_the_base_against_itself_passes(in_turns):
    pytest.importorskip("chipassay.results.compare.compare")
    same = step("Compare").replace("results/new", "results/base")
    done = shell(in_turns, same, GITHUB_STEP_SUMMARY=str(in_turns / "same.md"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_failing_test_of_the_pull_request_fails_the_job_and_one_of_the_base_does_not(checked_out, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(checked_out, folder, ignore=shutil.ignore_patterns("results", ".git"))
    passes, fails = (f"def test_standardised(benchmark):\n    assert benchmark(int) == {result}\n" for result in (0, 1))
    (folder / "base" / "test_kernels.py").write_text(fails)
    (folder / "new" / "test_kernels.py").write_text(passes)
    assert measure(folder, turns=1).returncode == 0
    (folder / "new" / "test_kernels.py").write_text(fails)
    assert measure(folder, turns=1).returncode == 1
