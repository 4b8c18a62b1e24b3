"""The one command for a GPU: its stages tried on the CPU, its summary on rows made by hand, its start straight from a checkout."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from chipassay.results.errors import NothingMeasured
from chipassay.results.schema import Row
from chipassay.results.table import TableWriter, read_rows
from chipassay.runners.cli import main
from chipassay.runners.commands import gpu
from chipassay.runners.gpu_summary import best_lines, check_lines, summary_markdown

SCRIPT = Path(__file__).parents[2] / "runners" / "from_checkout.py"
SUITE = '[[block]]\nop = "copy"\nbackends = ["numpy"]\ndtype = ["fp32"]\nelements = [1000, 1000000]\n'


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:

    return subprocess.run([sys.executable, str(SCRIPT), *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_a_stage_leaves_its_files_and_a_second_call_goes_on_with_them(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SUITE)
    arguments = ("gpu", "--device", "cpu", "--stages", "rows", "--suite", "tiny.toml", "--budget", "90s", "--out", "out", "--quiet")
    first = run(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    out = tmp_path / "out"
    assert {"rows.csv", "profile.json", "summary.md"} <= {file.name for file in out.iterdir()}
    rows = read_rows(out / "rows.csv")
    assert [row.status for row in rows] == ["ok", "ok"]
    assert (out / "summary.md").read_text() in first.stdout
    second = run(*arguments, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert read_rows(out / "rows.csv") == rows


def test_stages_run_one_by_one_come_together_in_one_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(name: str, suite: str, budget_s: float, arguments: argparse.Namespace) -> SimpleNamespace:
        rows = [row("copy", f"kernel.of.{name}", run_id="r", device_name="Fake", chip_id="fake", device_kind="cuda")]
        with TableWriter(arguments.out / f"{name}.csv") as table:
            table.append(rows[0])
        return SimpleNamespace(rows=rows, interrupted=name == "rows")

    monkeypatch.setattr(gpu, "_stage", stage)
    monkeypatch.setattr(gpu, "_write", lambda rows, folder: {"profile": "somewhere"})
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    assert main(["gpu", "--out", "out", "--stages", "checks"]) == 0
    # Interrupted, it tells what there is; the stage after it is not begun.
    assert main(["gpu", "--out", "out", "--stages", "rows,shapes"]) == 130
    text = Path("out/summary.md").read_text()
    assert "kernel.of.checks" in text
    assert "kernel.of.rows" in text
    assert "kernel.of.shapes" not in text


@pytest.mark.parametrize(
    ("chosen", "budgets_s"),
    [("checks", [100]), ("checks,rows", [25, 100]), ("rows,shapes", [85, 100]), ("checks,rows,shapes", [25, 85, 100])],
)
def test_the_last_stage_has_all_the_time_that_is_left(
    chosen: str, budgets_s: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def stage(name: str, suite: str, budget_s: float, arguments: argparse.Namespace) -> SimpleNamespace:
        seen.append(budget_s)
        return SimpleNamespace(rows=[row("copy", "a")], interrupted=False)

    monkeypatch.setattr(gpu, "_stage", stage)
    monkeypatch.setattr(gpu.time, "monotonic", lambda: 0.0)
    assert main(["gpu", "--out", str(tmp_path), "--stages", chosen, "--budget", str(100 + gpu.CLOSING_S)]) == 0
    assert seen == budgets_s


def test_a_chip_that_goes_away_still_leaves_the_summary_of_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(name: str, suite: str, budget_s: float, arguments: argparse.Namespace) -> SimpleNamespace:
        with TableWriter(arguments.out / f"{name}.csv") as table:
            table.append(row("copy", "a.kernel", device_name="Fake", chip_id="fake"))
        raise NothingMeasured("Fake went away")

    monkeypatch.setattr(gpu, "_stage", stage)
    assert main(["gpu", "--out", str(tmp_path), "--stages", "checks"]) == 3
    assert "a.kernel" in (tmp_path / "summary.md").read_text()


def test_a_reason_of_several_lines_stays_in_its_cell() -> None:
    assert "error: a b" in check_lines([row("matmul", "a", "error", reason="a\nb")])[2]


def test_the_script_says_what_python_lacks(tmp_path: Path) -> None:
    # -S: no site-packages.
    done = subprocess.run([sys.executable, "-S", str(SCRIPT), "doctor"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has no numpy and no pandas; pip install numpy pandas" in done.stderr


def test_the_version_is_told_without_an_installation(tmp_path: Path) -> None:
    assert "chipassay" in run("--version", cwd=tmp_path).stdout


def test_an_unknown_stage_is_told_the_known_ones(tmp_path: Path) -> None:
    done = run("gpu", "--stages", "tune", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "'tune' is no stage; write some of checks,rows,shapes" in done.stderr


def test_the_script_refuses_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    script = tmp_path / "runners" / "from_checkout.py"
    script.parent.mkdir()
    script.write_text(SCRIPT.read_text())
    done = subprocess.run([sys.executable, str(script), "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is no checkout of chipassay: it has no kernels/" in done.stderr


def row(op: str, kernel: str, status: str = "ok", **columns: object) -> Row:
    return Row(op=op, kernel=kernel, status=status, dtype="bf16", cache="cold", time_median_s=1.0, **columns)  # type: ignore[arg-type]


def test_a_wrong_kernel_stands_in_the_table_with_its_reason() -> None:
    lines = check_lines(
        [row("matmul", "a"), row("matmul", "a", "incorrect", reason="error 3 above its limit 1"), row("matmul", "b", "error", reason="x|y")]
    )
    assert lines[2:] == [
        "| matmul | `a` | 1 | 1 | 0 | 0 | incorrect: error 3 above its limit 1 |",
        "| matmul | `b` | 0 | 0 | 1 | 0 | error: x/y |",
    ]


@pytest.mark.parametrize(
    ("better", "worse", "shown"),
    [
        (row("matmul", "a", rate_flops_per_s=2e12), row("matmul", "b", rate_flops_per_s=1e12, bandwidth_bytes_per_s=9e12), "2.00 TFLOP/s"),
        (row("copy", "a", bandwidth_bytes_per_s=2e12), row("copy", "b", bandwidth_bytes_per_s=1e12), "2.00 TB/s"),
        (
            row("copy", "a", bandwidth_bytes_per_s=2e12),
            row("copy", "b", bandwidth_bytes_per_s=9e12, flags="above the memory's bandwidth"),
            "2.00 TB/s",
        ),
    ],
)
def test_the_best_is_told_by_what_limits_the_operation_and_never_an_impossible_row(better: Row, worse: Row, shown: str) -> None:
    (line,) = best_lines([worse, better])[2:]
    assert "`a`" in line
    assert shown in line


def test_passes_and_ways_are_told_apart() -> None:
    rows = [
        row("attention", "a", direction="forward", rate_flops_per_s=2e12),
        row("attention", "a", direction="backward", rate_flops_per_s=1e12),
    ]
    assert len(best_lines(rows)[2:]) == 2


def test_a_summary_of_nothing_says_so() -> None:
    assert "# No device" in summary_markdown([], [], [])
    assert "not measured" in summary_markdown([], [], [])
