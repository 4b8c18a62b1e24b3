"""The CSV: bit for bit both ways, whole after any crash, errors that name the cell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from chipassay.results import schema
from chipassay.results.errors import FileError, InputError
from chipassay.results.schema import NAMES, Row, case_key
from chipassay.results.table import TableWriter, keep_latest, read_many, read_rows, to_frame


def written(path, *rows):
    with TableWriter(path) as table:
        for row in rows:
            table.append(row)
    return path


def test_a_row_with_quotes_commas_and_line_breaks_stays_one_line(tmp_path):
    path = written(tmp_path / "t.csv", Row(op="copy", status="error", reason='said "no",\nthen died'))
    assert path.read_text().count("\n") == 2
    assert read_rows(path)[0].reason == 'said "no", | then died'


def test_a_half_written_last_line_does_not_count_and_is_replaced(tmp_path):
    path = written(tmp_path / "t.csv", Row(op="copy", status="ok", time_median_s=1.0))
    with open(path, "a") as file:
        file.write('1,abc,"unfinished')
    assert len(read_rows(path)) == 1
    written(path, Row(op="triad", status="ok"))
    assert [row.op for row in read_rows(path)] == ["copy", "triad"]


def test_every_prefix_of_a_file_still_reads(tmp_path):
    path = written(tmp_path / "t.csv", *(Row(op=f"op{i}", status="ok", time_median_s=0.1 * i) for i in range(5)))
    content = path.read_bytes()
    header = content.index(b"\n") + 1
    for cut in range(header, len(content) + 1):
        path.write_bytes(content[:cut])
        assert [row.op for row in read_rows(path)] == [f"op{i}" for i in range(whole_rows(content[:cut]))]


def whole_rows(content):
    """Rows whose cells are all there; the last one's line end may not be."""
    *lines, tail = content.decode().split("\n")
    return len(lines) - 1 + (tail.count(",") == len(NAMES) - 1)


def test_a_row_that_lacks_its_line_end_alone_counts_and_is_continued(tmp_path):
    path = written(tmp_path / "t.csv", Row(op="copy", status="ok"))
    path.write_bytes(path.read_bytes()[:-1])
    assert [row.op for row in read_rows(path)] == ["copy"]
    written(path, Row(op="triad", status="ok"))
    assert [row.op for row in read_rows(path)] == ["copy", "triad"]


def test_every_prefix_of_a_file_is_continued_with_all_rows_that_it_has(tmp_path):
    path = written(tmp_path / "t.csv", Row(op="copy", status="error", reason='"é", ü'), Row(op="scale", status="ok"))
    content = path.read_bytes()
    header = content.index(b"\n") + 1
    for cut in [0, 5, header - 1, *range(header, len(content) + 1)]:
        path.write_bytes(content[:cut])
        before = [row.op for row in read_rows(path)] if cut >= header else []
        written(path, Row(op="triad", status="ok"))
        assert [row.op for row in read_rows(path)] == [*before, "triad"]


def test_rows_are_on_the_disk_when_the_writer_is_killed(tmp_path):
    path = tmp_path / "t.csv"
    program = f"""
import os, signal
from chipassay.results.schema import Row
from chipassay.results.table import TableWriter
table = TableWriter({str(path)!r})
for i in range(3):
    table.append(Row(op="copy", status="ok", elements=i))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert [row.elements for row in read_rows(path)] == [0, 1, 2]


def broken(path, column, text):
    lines = written(path, Row(op="copy", status="ok", time_median_s=1.0)).read_text().splitlines()
    cells = lines[1].split(",")
    cells[NAMES.index(column)] = text
    path.write_text("\n".join([lines[0], lines[1], ",".join(cells)]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("column", "text", "complaint"),
    [
        ("time_median_s", "fast", "not a number"),
        ("time_median_s", "nan", "not a number"),
        ("m", "1.5", "not a whole number"),
        ("causal", "yes", "neither true nor false"),
        ("status", "fine", "not a status"),
        ("op", "", "is empty"),
        ("samples_s", "1.0 x", "numbers separated by spaces"),
        ("samples_s", "1.0 -1.0", "at least 0"),
        ("time_median_s", "-1.0", "at least 0"),
        ("time_median_s", "inf", "at least 0"),
        ("flops", "1e999", "not a number"),
        ("flops", "0x10", "not a number"),
        ("flops", "1_000.0", "digits 0 to 9 alone"),
        ("flops", "١٢", "digits 0 to 9 alone"),
        ("flops", " 5 ", "digits 0 to 9 alone"),
        ("flops", '"1,5"', "with a decimal point"),
        ("m", "1_000", "digits 0 to 9 alone"),
        ("m", "\uff11\uff12", "digits 0 to 9 alone"),
        ("m", " 5 ", "digits 0 to 9 alone"),
        ("m", "9223372036854775808", "64 bits"),
        ("m", "9" * 5000, "not a whole number"),
    ],
)
def test_a_broken_cell_is_named_by_file_line_and_column(tmp_path, column, text, complaint):
    path = broken(tmp_path / "t.csv", column, text)
    with pytest.raises(FileError, match=f"t.csv, line 3, column {column}: .*{complaint}") as caught:
        read_rows(path)
    assert caught.value.line == 3
    assert caught.value.field == column


def test_a_line_with_missing_cells_is_named(tmp_path):
    path = written(tmp_path / "t.csv", Row(op="copy", status="ok"))
    with open(path, "a") as file:
        file.write("1,2,3\n")
    with pytest.raises(FileError, match=r"line 3: 3 cells where the header has"):
        read_rows(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"nowhere\.csv: cannot be read \(No such file"):
        read_rows(tmp_path / "nowhere.csv")


def test_another_tools_csv_is_told_to_be_imported(tmp_path):
    (tmp_path / "t.csv").write_text("size,busbw\n8,1.0\n")
    with pytest.raises(FileError, match="no op and status columns"):
        read_rows(tmp_path / "t.csv")


def test_a_misspelled_column_gets_the_nearest_name_and_own_columns_are_welcome(tmp_path):
    (tmp_path / "t.csv").write_text("op,status,time_medain_s\ncopy,ok,1.0\n")
    with pytest.raises(FileError, match="did you mean time_median_s"):
        read_rows(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("op,status,x_price\ncopy,ok,1.0\n")
    assert read_rows(tmp_path / "t.csv")[0].op == "copy"


def test_an_empty_set_of_rows_is_an_error(tmp_path):
    path = written(tmp_path / "t.csv")
    with pytest.raises(InputError, match="no row"):
        read_many([path])


def test_a_file_that_is_a_folder_cannot_be_written(tmp_path):
    with pytest.raises(FileError, match=r"cannot be written .*--out"):
        TableWriter(tmp_path)


def test_a_full_disk_loses_no_earlier_row(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    table = TableWriter(path)
    table.append(Row(op="copy", status="ok"))
    real = os.write

    def full(descriptor, data):
        # Half a line still fits, then nothing.
        real(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FileError, match=r"No space left on device.*all rows before it are safe.*--resume"):
        table.append(Row(op="triad", status="ok"))
    monkeypatch.undo()
    table.close()
    assert path.read_text().endswith("\n")
    assert [row.op for row in read_rows(path)] == ["copy"]


def test_a_file_with_other_columns_is_not_continued(tmp_path):
    (tmp_path / "t.csv").write_text("op,status\ncopy,ok\n")
    with pytest.raises(FileError, match="other columns than this version writes"):
        TableWriter(tmp_path / "t.csv")


def test_the_key_tells_cases_apart_and_ignores_results():
    one = Row(op="matmul", m=1, dtype="fp32", time_median_s=1.0)
    assert case_key(one) == case_key(Row(op="matmul", m=1, dtype="fp32", time_median_s=2.0))
    assert case_key(one) != case_key(Row(op="matmul", m=2, dtype="fp32"))


def test_the_frame_keeps_types_and_unknowns():
    frame = to_frame([Row(op="copy", elements=3, time_median_s=0.5), Row(op="triad")])
    assert str(frame["elements"].dtype) == "Int64"
    assert frame["time_median_s"].isna().tolist() == [False, True]


def test_units_are_in_the_names_of_all_measured_columns():
    units = ("_s", "_bytes", "_per_s", "_hz", "_w", "_c", "_fraction", "_count", "_j", "_ratio")
    plain = {"flops", "bytes", "error", "error_limit", "samples_s"}
    for field in schema.COLUMNS:
        if field.metadata["group"] in ("result", "condition") and schema.TYPES[field.name] == "float":
            assert field.name in plain or field.name.endswith(units), field.name


def test_the_latest_row_of_each_case_of_each_run_counts(tmp_path):
    rows = [Row(op="copy", status="ok", run_id=run, time_median_s=t) for run, t in (("a", 1.0), ("b", 2.0), ("a", 3.0))]
    path = written(tmp_path / "t.csv", *rows)
    assert [(row.run_id, row.time_median_s) for row in read_many([path])] == [("a", 3.0), ("b", 2.0)]
    keep_latest(path)
    assert [(row.run_id, row.time_median_s) for row in read_rows(path)] == [("a", 3.0), ("b", 2.0)]
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_keeping_the_latest_on_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = written(tmp_path / "t.csv", Row(op="copy", status="ok", m=1), Row(op="copy", status="ok", m=1))
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    keep_latest(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
