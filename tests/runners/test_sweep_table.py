"""A sweep's CSV: rows are there when they are written, a cut-off row is made again, another's file is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipassay.results.errors import FileError
from chipassay.runners.sweep.table import COLUMNS, Appender, Result, read_results, sort_results


def result(key: str, status: str = "ok", **more) -> Result:
    about = {
        "model": "m",
        "seq_len": 1,
        "cluster": "c",
        "link": "",
        "batch": None,
        "dtype": None,
        "plan": "best",
        "price": "",
        "tokens": None,
    }
    return Result(key=key, status=status, reason=more.pop("reason", ""), **about, **more)


def test_a_row_is_in_the_file_before_the_table_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "r.csv"
    with Appender(path) as table:
        table.append([result("a", step_time_s=1.25, chips=8), result("b", "refused", reason="no, it does not")])
        rows = read_results(path)
    assert list(rows) == ["a", "b"]
    assert (rows["a"]["step_time_s"], rows["a"]["chips"], rows["a"]["batch"]) == ("1.25", "8", "")
    assert rows["b"]["reason"] == "no, it does not"


@pytest.mark.parametrize("lost", range(1, 60, 7))
def test_a_row_that_was_cut_off_is_not_there_and_is_written_over(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "r.csv"
    with Appender(path) as table:
        table.append([result("a"), result("b")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    with Appender(path) as table:
        missing = [key for key in ("a", "b") if key not in table.rows]
        table.append(map(result, missing))
    assert path.read_bytes() == whole


def test_a_header_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("key,model,se", encoding="utf-8")
    with Appender(path) as table:
        table.append([result("a")])
    assert list(read_results(path)) == ["a"]


@pytest.mark.parametrize("text", ["notes of mine", "name,price\nh100,2\n", "keyboard", '"unended\n', "\x00\n"])
def test_a_file_that_is_none_of_a_sweep_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match=r"mine\.csv"):
        Appender(path)
    assert path.read_text(encoding="utf-8") == text


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(FileError, match="not text in UTF-8"):
        Appender(path)


def test_a_line_of_too_few_cells_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(",".join(COLUMNS) + "\na,b\n", encoding="utf-8")
    with pytest.raises(FileError, match=rf"line 2: 2 cells where {len(COLUMNS)} belong"):
        read_results(path)


def test_two_sweeps_do_not_write_to_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    with Appender(path), pytest.raises(FileError, match="another sweep is writing to it"):
        Appender(path)
    with Appender(path):
        pass


def test_of_two_rows_of_a_key_the_later_counts_and_sorting_keeps_it_and_what_is_of_no_key(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    with Appender(path) as table:
        table.append([result("old"), result("b"), result("a", "failed"), result("a")])
    sort_results(path, ["a", "b", "not made"])
    rows = read_results(path)
    assert list(rows) == ["a", "b", "old"]
    assert rows["a"]["status"] == "ok"
    assert path.read_text(encoding="utf-8").count("\n") == 4


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileError, match="cannot be written"):
        Appender(tmp_path / "file" / "r.csv")
    with pytest.raises(FileError, match="cannot be written"):
        Appender(tmp_path)
