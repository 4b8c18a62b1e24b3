"""nvbandwidth's JSON and tables as rows. Expected figures are those printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipassay.results.errors import FileError
from chipassay.results.schema import Row
from chipassay.runners.importers.importer import Hints, Imported
from chipassay.runners.importers.nvbandwidth import IMPORTER

DATA = Path(__file__).parent / "data"


def imported(name: str) -> Imported:
    return IMPORTER.read(DATA / name, Hints())


def of(rows: tuple[Row, ...], testcase: str) -> list[Row]:
    return [row for row in rows if row.kernel == f"nvbandwidth.{testcase}"]


def test_a_copy_from_the_host_is_a_transfer_without_a_time() -> None:
    row = imported("nvbandwidth_v05.json").rows[0]
    assert (row.op, row.path, row.host_memory, row.device_index) == ("transfer", "host_to_device", "pinned", 0)
    assert (row.bandwidth_bytes_per_s, row.time_median_s, row.bytes) == (12.3964e9, None, None)
    assert (row.tool, row.tool_version, row.driver) == ("nvbandwidth", "v0.5", "565.02")


def test_foreign_lines_around_the_json_do_no_harm() -> None:
    assert [row.status for row in imported("nvbandwidth_v05.json").rows] == ["ok", "ok", "skipped", "ok"]


def test_a_waived_testcase_is_skipped_with_its_reason_and_a_failed_one_an_error() -> None:
    (waived,) = of(imported("nvbandwidth_v05.json").rows, "device_to_device_memcpy_read_ce")
    assert (waived.status, waived.path) == ("skipped", "device_to_device")
    (failed,) = of(imported("nvbandwidth_v08_pairs.json").rows, "host_to_device_memcpy_sm")
    assert (failed.status, failed.reason) == ("error", "CUDA_ERROR_OUT_OF_MEMORY in expression cuMemAlloc")


def test_a_latency_is_a_time() -> None:
    (row,) = of(imported("nvbandwidth_v05.json").rows, "host_device_latency_sm")
    assert (row.op, row.bandwidth_bytes_per_s) == ("memory_latency", None)
    assert row.time_median_s == pytest.approx(649.879e-9)


def test_the_arrow_says_which_way_a_pairs_bytes_go() -> None:
    rows = of(imported("nvbandwidth_v08_pairs.json").rows, "device_to_device_memcpy_write_ce")
    # GPU(row) <- GPU(column): the cell in row 0, column 1 is a copy from 1 to 0.
    assert [(row.variant, row.bandwidth_bytes_per_s) for row in rows] == [("from=1;to=0", 390.5e9), ("from=0;to=1", 391.25e9)]
    assert {(row.chip_count, row.device_index, row.chip_id) for row in rows} == {(2, None, "h100-sxm-80gb")}


def test_the_three_matrices_of_a_copy_both_ways_are_told_apart_in_json_and_text() -> None:
    rows = of(imported("nvbandwidth_v08_pairs.json").rows, "device_to_device_bidirectional_memcpy_write_ce")
    assert [row.variant for row in rows[::2]] == ["from=0;to=1;part=write1", "from=0;to=1;part=write2", "from=0;to=1;part=total"]
    assert [row.bandwidth_bytes_per_s for row in rows[::2]] == [380e9, 382e9, 762e9]
    rows = of(imported("nvbandwidth_v08.txt").rows, "device_to_device_bidirectional_memcpy_read_ce")
    assert [row.variant for row in rows[::2]] == ["from=0;to=1;part=read1", "from=0;to=1;part=read2", "from=0;to=1;part=total"]
    assert [row.bandwidth_bytes_per_s for row in rows[::2]] == [20e9, 22e9, 42e9]


def test_all_to_one_is_no_copy_within_one_gpu() -> None:
    rows = of(imported("nvbandwidth_v08_pairs.json").rows, "all_to_one_write_ce")
    assert [(row.variant, row.device_index) for row in rows] == [("from=all;to=0", 0), ("from=all;to=1", 1)]


def test_a_copy_within_a_gpu_counts_its_bytes_twice_as_ours_does() -> None:
    rows = of(imported("nvbandwidth_v08.txt").rows, "device_local_copy")
    assert [row.bandwidth_bytes_per_s for row in rows] == [2 * 1116.30e9, 2 * 1116.88e9]
    assert [(row.path, row.variant, row.device_index) for row in rows] == [("device_to_device", None, 0), ("device_to_device", None, 1)]
    assert rows[0].chip_id == "h20-141gb"


def test_a_table_that_only_its_sum_names_reads() -> None:
    rows = of(imported("nvbandwidth_v08.txt").rows, "device_to_device_memcpy_read_ce")
    assert [(row.variant, row.bandwidth_bytes_per_s) for row in rows] == [("from=0;to=1", 26.34e9), ("from=1;to=0", 26.34e9)]


def test_the_zero_diagonal_of_old_versions_is_no_measurement() -> None:
    rows = of(imported("nvbandwidth_v02.txt").rows, "device_to_device_memcpy_write_ce")
    assert [row.bandwidth_bytes_per_s for row in rows] == [276.07e9, 276.19e9]
    assert imported("nvbandwidth_v02.txt").rows[-1].status == "skipped"


def test_what_has_no_place_is_told() -> None:
    assert any("new_thing" in sentence for sentence in imported("nvbandwidth_v08_pairs.json").unmapped)
    assert len(imported("nvbandwidth_v08.txt").unmapped) == 3  # waived without a name, and the table that is cut off


def test_a_file_that_ends_early_keeps_its_whole_testcases(tmp_path: Path) -> None:
    text = (DATA / "nvbandwidth_v05.json").read_text()
    path = tmp_path / "cut.json"
    path.write_text(text[: text.index('"device_to_host_bidirectional')])
    found = IMPORTER.read(path, Hints())
    assert [row.path for row in found.rows] == ["host_to_device"]
    assert any("ends in the middle" in sentence for sentence in found.unmapped)


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{\n "nvbandwidth" : {\n  "testcases" : [ nonsense ]\n }\n}\n')
    with pytest.raises(FileError, match=r"broken\.json, line 3: broken JSON"):
        IMPORTER.read(path, Hints())
