"""Whatever happens to other tools' outputs on their way, reading ends with rows or a named error; no importer takes another's file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chipassay.results.cells import row_to_cells
from chipassay.results.errors import FileError
from chipassay.runners.importers.importer import Hints, importers, recognise

DATA = Path(__file__).parent / "data"
KINDS = {"nccl": "nccl-tests", "rccl": "nccl-tests", "nvbandwidth": "nvbandwidth", "nvbench": "nvbench", "mamf": "mamf-finder"}
SAMPLES = sorted(path for path in DATA.iterdir() if path.stem.split("_")[0] in KINDS)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_file_is_recognised_by_its_own_importer_alone(path: Path) -> None:
    head = path.read_bytes()[: 2**16]
    assert [kind for kind, importer in importers().items() if importer.recognises(path, head)] == [KINDS[path.stem.split("_")[0]]]


def test_no_importer_takes_our_own_tables() -> None:
    ours = sorted((Path(__file__).parents[3] / "results").glob("*.csv"))
    assert ours
    for path in ours:
        assert recognise(path) is None


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_row_names_its_file_and_fits_the_table(path: Path) -> None:
    importer = recognise(path)
    assert importer is not None
    found = importer.read(path, Hints())
    assert found.rows
    for row in found.rows:
        assert None not in (row.tool, row.source_hash, row.run_id, row.op, row.status)
        assert row.status != "ok" or row.time_median_s is not None or row.bandwidth_bytes_per_s is not None
        row_to_cells(row)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(path: Path, tmp_path: Path) -> None:
    importer = recognise(path)
    assert importer is not None
    there = tmp_path / path.name
    there.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert recognise(there) is importer
    here, windows = (importer.read(each, Hints()) for each in (path, there))
    assert [(row.op, row.variant, row.time_median_s, row.bandwidth_bytes_per_s) for row in windows.rows] == [
        (row.op, row.variant, row.time_median_s, row.bandwidth_bytes_per_s) for row in here.rows
    ]


@settings(derandomize=True, max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sample=st.sampled_from(SAMPLES),
    cut=st.floats(0, 1),
    at=st.floats(0, 1),
    put=st.one_of(
        st.binary(min_size=1, max_size=12),
        st.sampled_from([b"\n", b"\x00", b"nan", b"-1", b"1e999", b"9" * 400, b'"', b"{", b"]", b"null", b"N/A", b"\xff\xfe", b"time"]),
    ),
    over=st.integers(0, 40),
)
def test_a_damaged_file_gives_rows_or_a_named_error(tmp_path: Path, sample: Path, cut: float, at: float, put: bytes, over: int) -> None:
    content = sample.read_bytes()
    place = int(at * len(content))
    damaged = (content[:place] + put + content[place + over :])[: 1 + int(cut * 2 * len(content))]
    path = tmp_path / sample.name
    path.write_bytes(damaged)
    importer = importers()[KINDS[sample.stem.split("_")[0]]]
    recognise(path)
    try:
        found = importer.read(path, Hints())
    except FileError:
        return
    assert found.rows or found.unmapped
    for row in found.rows:
        row_to_cells(row)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"hello\n", b"{", b"[" * 100_000, b'{"nvbandwidth": {"testcases": ' + b"[" * 100_000])
@pytest.mark.parametrize("kind", sorted(set(KINDS.values())))
def test_what_is_no_output_at_all_is_a_named_error(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"file\.json"):
        importers()[kind].read(path, Hints())


def test_a_file_that_is_not_there_is_a_named_error(tmp_path: Path) -> None:
    for kind in set(KINDS.values()):
        with pytest.raises(FileError, match="cannot be read"):
            importers()[kind].read(tmp_path / "none", Hints())
