"""nvbench's JSON, raw samples and CSV as rows. Expected figures are those of the files, or follow by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from chipassay.results.errors import FileError
from chipassay.results.schema import Row
from chipassay.runners.importers.importer import Hints, Imported
from chipassay.runners.importers.nvbench import IMPORTER

DATA = Path(__file__).parent / "data"


def imported(name: str) -> Imported:
    return IMPORTER.read(DATA / name, Hints())


def with_samples(folder: Path, times_s: list[float], filename: str = "out.json-bin/0.bin") -> Path:
    """A run of one case whose samples lie beside its JSON, as --jsonbin leaves them."""
    document = json.loads((DATA / "nvbench.json").read_text())
    state = document["benchmarks"][0]["states"][0]
    data = [{"name": "filename", "type": "string", "value": filename}, {"name": "size", "type": "int64", "value": str(len(times_s))}]
    state["summaries"].append({"tag": "nv/json/bin:nv/cold/sample_times", "hint": "file/sample_times", "data": data})
    document["benchmarks"] = [{**document["benchmarks"][0], "states": [state]}]
    (folder / "out.json").write_text(json.dumps(document))
    (folder / "out.json-bin").mkdir(exist_ok=True)
    (folder / "out.json-bin" / "0.bin").write_bytes(struct.pack(f"<{len(times_s)}f", *times_s))
    return folder / "out.json"


def test_a_case_gives_a_cold_row_and_one_of_calls_back_to_back() -> None:
    cold, batch = imported("nvbench.json").rows[:2]
    assert (cold.op, cold.kernel, cold.variant, cold.cache) == ("simple", "nvbench.simple", None, "cold")
    assert (cold.time_median_s, cold.time_statistic, cold.sample_count) == (0.0010034715849794225, "mean", 499)
    assert (batch.cache, batch.time_median_s, batch.calls_per_sample) == ("warm", 0.001001475909284053, 524)
    assert (cold.tool, cold.tool_version) == ("nvbench", "0.1.0 old-cmake-63-g348acbd")


def test_each_device_has_its_rows() -> None:
    rows = [row for row in imported("nvbench.json").rows if row.op == "simple" and row.cache == "cold"]
    assert [(row.device_index, row.device_name, row.device_memory_bytes) for row in rows] == [
        (0, "Quadro GV100", 34086060032),
        (1, "Quadro GP100", 17069309952),
    ]


def test_axes_are_the_variant_and_bytes_come_back_whole() -> None:
    row = next(row for row in imported("nvbench.json").rows if row.op == "copy_sweep_grid_shape")
    assert row.variant == "BlockSize=64;NumBlocks=64"
    assert row.bytes == 2 * 4 * 64 * 2**20  # 64 Mi int32, read and written: examples/throughput of nvbench
    assert row.bandwidth_bytes_per_s == pytest.approx(row.bytes / 0.006485689823444072)
    # The file tells reads and writes of this one: InSize and OutSize.
    row = next(row for row in imported("nvbench.json").rows if row.variant == "In=I8;Out=I16")
    assert row.bytes == 67108864 + 134217728


def test_a_skipped_case_keeps_its_reason() -> None:
    (row,) = [row for row in imported("nvbench.json").rows if row.status == "skipped"]
    assert (row.variant, row.reason) == ("In=I8;Out=I8", "Not a conversion: InputType == OutputType.")


def test_values_without_a_column_are_told_by_their_tag() -> None:
    assert any("nv/cold/time/cpu/mean" in sentence for sentence in imported("nvbench.json").unmapped)


def test_raw_samples_beside_the_json_give_a_median_and_percentiles(tmp_path: Path) -> None:
    row = IMPORTER.read(with_samples(tmp_path, [1.0, 4.0, 2.0, 3.0, 8.0]), Hints()).rows[0]
    assert (row.time_median_s, row.time_statistic, row.sample_count) == (3.0, None, 5)
    assert (row.samples_s, row.time_min_s) == ((1.0, 4.0, 2.0, 3.0, 8.0), 1.0)


@pytest.mark.parametrize("filename", ["../../secret.bin", "/etc/passwd", "out.json-bin/9.bin", "x\x00y"])
def test_samples_are_looked_for_beside_the_json_only(tmp_path: Path, filename: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "secret.bin").write_bytes(struct.pack("<2f", 1.0, 2.0))
    found = IMPORTER.read(with_samples(tmp_path / "run", [1.0, 2.0], filename), Hints())
    assert found.rows[0].samples_s is None
    assert any("files of samples" in sentence for sentence in found.unmapped)


def test_samples_of_another_length_than_told_are_not_read(tmp_path: Path) -> None:
    path = with_samples(tmp_path, [1.0, 2.0])
    (tmp_path / "out.json-bin" / "0.bin").write_bytes(b"\x00" * 7)
    assert IMPORTER.read(path, Hints()).rows[0].samples_s is None


def test_the_csv_says_the_same_as_the_json() -> None:
    def told(row: Row) -> tuple[object, ...]:
        return row.op, row.variant, row.cache, row.device_index, row.device_name, row.time_median_s, row.sample_count, row.calls_per_sample

    assert [told(row) for row in imported("nvbench.csv").rows[:2]] == [told(row) for row in imported("nvbench.json").rows[:2]]


def test_axes_of_later_benchmarks_stand_after_the_results_in_csv() -> None:
    rows = imported("nvbench.csv").rows
    assert (rows[2].variant, rows[2].bytes) == ("BlockSize=64;NumBlocks=128", 5e8)  # 5e11 B/s for 1 ms
    assert (rows[4].variant, rows[4].status) == ("In=I8;Out=I8", "skipped")


def test_a_time_of_nothing_is_an_error() -> None:
    row = imported("nvbench.csv").rows[5]
    assert (row.status, row.time_median_s) == ("error", None)


def test_a_line_that_a_comma_broke_is_told() -> None:
    assert any("another number of cells" in sentence and "line 6" in sentence for sentence in imported("nvbench.csv").unmapped)


def test_a_file_without_cases_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("Benchmark,Device,Device Name,Skipped\n")
    with pytest.raises(FileError, match="no case below the header"):
        IMPORTER.read(tmp_path / "empty.csv", Hints())
