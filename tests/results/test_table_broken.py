"""Whatever has happened to a file: it is read in full, or an error names it. Never a traceback, never a row that is quietly missing."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chipassay.results import csv_lines
from chipassay.results.cells import from_text, to_text
from chipassay.results.errors import FileError
from chipassay.results.schema import NAMES, SCHEMA_VERSION, STATUSES, TYPES, Row
from chipassay.results.table import TableWriter, iterate_rows, read_rows

ROWS = [
    Row(schema_version=1, op="copy", status="ok", dtype="fp32", elements=3, time_median_s=0.25, samples_s=(0.25, 0.5), reason='é, "a"'),
    Row(schema_version=1, op="matmul", status="error", m=2, n=3, k=4, reason="=1"),
    Row(schema_version=1, op="triad", status="ok", causal=True, error=float("inf")),
]
RULES = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "t.csv"
    with TableWriter(file) as table:
        table.extend(ROWS)
    return file


def complaint(path: Path) -> str:
    with pytest.raises(FileError) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n\n", b"\r\r\n"])
def test_line_ends_of_all_systems_are_read(path: Path, end: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", end))
    assert read_rows(path) == ROWS


def test_mixed_line_ends_are_read(path: Path) -> None:
    a, b, c, d, _ = path.read_bytes().split(b"\n")
    path.write_bytes(a + b"\r\n" + b + b"\r" + c + b"\n" + d + b"\r\n")
    assert read_rows(path) == ROWS


def test_a_byte_order_mark_is_read_over(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_rows(path) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_wide_encodings_are_named(path: Path, encoding: str) -> None:
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert "save it as CSV in UTF-8" in complaint(path)
    assert "UTF-" in complaint(path)


def test_another_encoding_is_named_by_its_line(path: Path) -> None:
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    assert "line 2: not UTF-8 text; save it as CSV in UTF-8" in complaint(path)


def test_nul_bytes_are_named_by_their_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"matmul", b"mat\0ul"))
    assert "line 3: holds NUL bytes" in complaint(path)


def test_a_cell_of_ten_megabytes_is_read(path: Path) -> None:
    with TableWriter(path) as table:
        table.append(Row(op="copy", status="error", reason="x" * 10**7))
    assert len(read_rows(path)[-1].reason or "") == 10**7


def test_a_wrong_cell_of_ten_megabytes_is_named_in_few_words(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b",0.25,", b"," + b"9" * 10**7 + b"x,"))
    assert "line 2, column time_median_s" in complaint(path)
    assert len(complaint(path)) < 400


def test_a_cell_beyond_all_measure_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"matmul", b"m" * (2**24 + 1)))
    assert "line 3: broken CSV (field larger than field limit" in complaint(path)


def test_a_line_without_end_is_not_read_into_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_lines, "LONGEST_LINE", 10_000)
    path.write_bytes(path.read_bytes() + b"x" * 20_000)
    assert "line 5: a line of more than 10000 characters" in complaint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"op,status", "ends in its header"),
        (b"op,stat", "ends in its header"),
        (b"op,status,op\ncopy,ok,copy\n", "line 1: column 'op' stands twice"),
        (b"op;status;time_median_s\ncopy;ok;0,5\n", "separated by semicolons"),
        (b'"op";"status"\n"copy";"ok"\n', "separated by semicolons"),
        (b"op;status;x_a,b\ncopy;ok;1,5\n", "separated by semicolons"),
        (b"op\tstatus\ncopy\tok\n", "separated by tabs"),
        (b",op,status\n0,copy,ok\n", "column 1 has no name; delete it (pandas"),
        (b"op,status,\ncopy,ok,\n", "column 3 has no name"),
        (b"op,status,colour\ncopy,ok,red\n", "unknown column 'colour'"),
        (b"op,status," + b"y" * 10**6 + b"\ncopy,ok,red\n", "unknown column 'yyyy"),
        (b"op, status\ncopy, ok\n", "no op and status columns"),
        (b"op,status\ncopy\n", "line 2: 1 cells where the header has 2"),
        (b"op,status\ncopy,ok,\n", "line 2: 3 cells where the header has 2"),
        (b'op,status,reason\ncopy,ok,"a\ncopy,ok,b\n', "line 2: broken CSV"),
        (b'op,status,reason\ncopy,ok,"a"b\n', "line 2: broken CSV"),
        (b"op,status,time_median_s\ncopy,ok,1.0", "line 2: the last line has no end and may be cut short; end it with a line break"),
        (b"op,status,reason\ncopy,ok", "line 2: the last line has no end and may be cut short"),
        (b'op,status,reason\ncopy,ok,"a', "line 2: broken CSV"),
        (b"schema_version,op,status\n2,copy,ok\n", "line 2: schema version 2"),
        (gzip.compress(b"op,status\ncopy,ok\n"), "is compressed by gzip; unpack it first with gunzip"),
        (b"PK\x03\x04abc", "a spreadsheet's workbook; unpack it, or export the sheet as CSV"),
        (b"PAR1abc", "is a Parquet file"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "NUL bytes"),
        (b"\xe9,op,status\n", "not UTF-8 text"),
    ],
)
def test_each_damage_has_its_name_and_mend(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert words in complaint(path)


def test_a_folder_is_named(tmp_path: Path) -> None:
    assert "cannot be read (Is a directory); give the path of a results CSV" in complaint(tmp_path)


def test_reordered_missing_and_own_columns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x_note,status,time_median_s,op\nmine,ok,0.5,copy\n\n,error,,read\n")
    assert read_rows(path) == [Row(op="copy", status="ok", time_median_s=0.5), Row(op="read", status="error")]


def test_text_at_the_end_of_a_file_without_line_end_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("op,status,dtype\ncopy,ok,fp32\ncopy,ok,fp64")
    assert [row.dtype for row in read_rows(path)] == ["fp32", "fp64"]


def test_a_quote_that_was_lost_in_the_middle_does_not_swallow_the_rest(path: Path) -> None:
    """A cut last line is no error, but a cell that was opened lines before is."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"matmul", b'"matmul')
    path.write_bytes(b"".join(lines)[:-1])
    assert "line 3: broken CSV" in complaint(path)


def test_a_file_is_not_read_into_memory_as_a_whole(path: Path) -> None:
    with TableWriter(path) as table:
        table.extend([Row(op="copy", status="ok", reason="x" * 1000)] * 10_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in iterate_rows(path)) == 10_003
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 2**20
        with TableWriter(path):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


BYTES = st.one_of(st.binary(max_size=4), st.sampled_from([b"\0", b'"', b'""', b"\r", b"\n", b",", b"\xff", b"\xef\xbb\xbf", b"=", b"\x1b"]))


@RULES
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), BYTES), min_size=1, max_size=3))
def test_no_damage_of_bytes_raises_anything_but_a_named_error(path: Path, damages: list[tuple[float, int, bytes]]) -> None:
    content = path.read_bytes()
    damaged = content
    for where, length, new in damages:
        begin = int(where * len(damaged))
        damaged = damaged[:begin] + new + damaged[begin + length :]
    other = path.with_name("damaged.csv")
    other.write_bytes(damaged)
    with contextlib.suppress(FileError):
        rows = read_rows(other)
        # Nothing is missing but what never came to its end.
        lines = damaged.replace(b"\r", b"\n").split(b"\n")
        assert len(rows) >= sum(1 for line in lines[1:-1] if line.count(b",") == len(NAMES) - 1 and b'"' not in line)


WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).map(lambda text: from_text("op", to_text(text))).filter(bool)
BY_TYPE = {
    "str": WORDS,
    "int": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "float": st.floats(0, allow_infinity=False),
    "tuple[float, ...]": st.lists(st.floats(0, allow_infinity=False), min_size=1, max_size=4).map(tuple),
}
CELLS = st.fixed_dictionaries(
    {"op": WORDS, "status": st.sampled_from(STATUSES)},
    optional={name: BY_TYPE[kind] for name, kind in TYPES.items() if name not in ("op", "status", "schema_version")},
)


@settings(RULES, max_examples=50)
@given(st.lists(CELLS, min_size=1, max_size=3))
def test_any_table_reads_back_as_it_was(tmp_path: Path, tables: list[dict[str, object]]) -> None:
    path = tmp_path / "any.csv"
    path.unlink(missing_ok=True)
    rows = [Row(**{"schema_version": SCHEMA_VERSION, **cells}) for cells in tables]  # type: ignore[arg-type]
    with TableWriter(path) as table:
        for row in rows:
            table.append(row)
    assert read_rows(path) == rows
