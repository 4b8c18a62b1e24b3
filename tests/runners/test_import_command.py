"""`chipassay import`: what it writes, what it prints, how it ends."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from chipassay.results.table import read_rows
from chipassay.runners.cli import main
from chipassay.runners.importers.importer import importers

BENCHMARK = {"fullname": "test_a.py::test_b", "stats": {"median": 2e-6, "rounds": 9, "iterations": 1}, "extra_info": {}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file of pytest-benchmark, known by what is in it and not by its name."""
    path = tmp_path / "results.txt"
    path.write_text(json.dumps({"machine_info": {"cpu": {"brand_raw": "Some CPU"}}, "benchmarks": [BENCHMARK]}), encoding="utf-8")
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["import", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_a_file_is_recognised_and_its_rows_are_written(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, saved, "-o", tmp_path / "new" / "rows.csv")
    assert code == 0
    assert "1 cpu-some-cpu  benchmark\n" in out
    assert "1 rows written to" in out
    (row,) = read_rows(tmp_path / "new" / "rows.csv")
    assert (row.op, row.time_median_s, row.sample_count) == ("benchmark", 2e-6, 9)


def test_a_kind_before_the_file_decides(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "pytest-benchmark", saved, "-o", tmp_path / "a.csv")[0] == 0
    code, _, err = told(capsys, "deepbench", saved, "-o", tmp_path / "b.csv")
    assert code == 2
    assert "is no whole workbook" in err
    assert not (tmp_path / "b.csv").exists()


def test_a_file_that_is_there_is_left_alone_unless_appended_to(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    assert told(capsys, saved, "-o", rows)[0] == 0
    before = rows.read_bytes()
    code, _, err = told(capsys, saved, "-o", rows)
    assert (code, rows.read_bytes()) == (2, before)
    assert "--append" in err
    assert told(capsys, saved, "-o", rows, "--append")[0] == 0
    assert len(read_rows(rows)) == 2


def test_hints_fill_what_the_file_does_not_tell(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = told(capsys, saved, "-o", tmp_path / "rows.csv", "--chip", "my-box")
    assert [row.chip_id for row in read_rows(tmp_path / "rows.csv")] == ["my-box"]
    assert "my-box is not in the catalogue" in out


def test_strict_fails_on_what_found_no_place(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved.write_text(json.dumps({"benchmarks": [{**BENCHMARK, "extra_info": {"colour": "red"}}] * 3, "machine_info": {}}), encoding="utf-8")
    code, out, _ = told(capsys, saved, "-o", tmp_path / "a.csv")
    assert code == 0
    assert "extra_info 'colour': no column for it (3 times, first in test_a.py::test_b)" in out
    assert told(capsys, saved, "-o", tmp_path / "b.csv", "--strict")[0] == 1
    assert len(read_rows(tmp_path / "b.csv")) == 3


def test_names_from_a_file_do_not_steer_the_terminal(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steering = {**BENCHMARK, "fullname": "a\x1b[2J\nb", "extra_info": {"\x1b]0;title\x07": 1}}
    saved.write_text(json.dumps({"benchmarks": [steering], "machine_info": {}}), encoding="utf-8")
    _, out, _ = told(capsys, saved, "-o", tmp_path / "rows.csv")
    saved.write_text(json.dumps({"benchmarks": [{**steering, "stats": {"median": "x"}}], "machine_info": {}}), encoding="utf-8")
    _, _, err = told(capsys, saved, "-o", tmp_path / "more.csv")
    assert "stats.median" in err
    assert not set(out + err) & set("\x1b\x07")
    assert len((tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_nothing_to_write_is_an_error_and_no_file(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved.write_text(json.dumps({"benchmarks": [{"fullname": "t", "stats": {}}], "machine_info": {}}), encoding="utf-8")
    code, _, err = told(capsys, saved, "-o", tmp_path / "rows.csv")
    assert code == 2
    assert "benchmark without a median or raw times" in err
    assert not (tmp_path / "rows.csv").exists()


def test_json_tells_the_same_to_programs(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    code, out, _ = told(capsys, saved, "-o", rows, "--json")
    groups = [{"chip_id": "cpu-some-cpu", "op": "benchmark", "dtype": None, "rows": 1}]
    assert (code, json.loads(out)) == (0, {"rows": 1, "out": str(rows), "groups": groups, "unmapped": []})


def test_rows_can_go_to_the_standard_output(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, saved, "-o", "-")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (code, row["kernel"], row["tool"]) == (0, "test_a.py::test_b", "pytest-benchmark")
    assert "1 rows written to the standard output" in err


def test_the_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == sorted(importers())
    assert {"aiconfigurator", "deepbench", "pytest-benchmark"} <= set(importers())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-o", "x.csv"], "no file to import"),
        (["deepbench", "-o", "x.csv"], "no file to import after deepbench"),
        (["results.txt"], "give -o FILE.csv"),
        (["results.txt", "-o", "x.csv", "--nodes", "0"], "--nodes 0"),
        (["missing.txt", "-o", "x.csv"], "missing.txt: cannot be read"),
        (["notes.txt", "-o", "x.csv"], "is no known kind of file; known: aiconfigurator"),
        (["empty.txt", "-o", "x.csv"], "empty.txt: is empty; give the output of a run"),
        (["ours.csv", "-o", "x.csv"], "is a results CSV already"),
    ],
)
def test_what_cannot_be_meant_is_said(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    monkeypatch.chdir(saved.parent)
    Path("notes.txt").write_text("milk, bread", encoding="utf-8")
    Path("empty.txt").touch()
    Path("ours.csv").write_text("op,status\ncopy,ok\n", encoding="utf-8")
    code, _, err = told(capsys, *arguments)
    assert code == 2
    assert problem in err
    assert not Path("x.csv").exists()
