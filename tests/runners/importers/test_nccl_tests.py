"""nccl-tests and rccl-tests: outputs of 2018 to 2026 as rows. Expected figures are those printed, or follow by hand from size and time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chipassay.collectives.pattern import patterns
from chipassay.results.errors import FileError
from chipassay.results.schema import Row
from chipassay.runners.importers.importer import Hints, Imported, recognise
from chipassay.runners.importers.nccl_terms import OPS

DATA = Path(__file__).parent / "data"


def imported(name: str, hints: Hints | None = None) -> Imported:
    path = DATA / name
    importer = recognise(path)
    assert importer is not None
    assert importer.kind == "nccl-tests"
    return importer.read(path, hints or Hints())


def placed(rows: tuple[Row, ...], in_place: bool = False) -> list[Row]:
    return [row for row in rows if row.in_place is in_place]


def test_a_table_of_today_gives_a_row_for_each_way_of_placing_the_buffers() -> None:
    found = imported("nccl_2026_gb10.txt")
    assert found.unmapped == ()
    assert [(row.size_bytes, row.in_place) for row in found.rows[:4]] == [(8192, False), (8192, True), (16384, False), (16384, True)]
    row = found.rows[0]
    assert (row.op, row.kernel, row.backend, row.dtype) == ("all_reduce", "nccl-tests.all_reduce", "nccl", "fp32")
    assert (row.time_median_s, row.time_statistic) == (35.15e-6, "mean")
    assert (row.group_size, row.chip_count, row.node_count, row.fabric) == (2, 2, 2, "network")
    assert (row.warmup_count, row.calls_per_sample, row.launch) == (10, 100, "stream")
    assert (row.tool, row.tool_version, row.libraries) == ("nccl-tests", "2.20.0", "nccl=2.31.2")
    assert (row.error, row.error_limit, row.status, row.flags) == (0.0, 0.0, "ok", None)


def test_our_bandwidths_are_the_printed_ones_within_their_rounding() -> None:
    row = placed(imported("rccl_2025_mi300x.txt").rows)[0]
    assert row.algbw_bytes_per_s == pytest.approx(92.08e9, abs=0.005e9)
    assert row.busbw_bytes_per_s == pytest.approx(161.14e9, abs=0.005e9)
    assert (row.backend, row.kernel, row.tool, row.device_kind) == ("rccl", "rccl-tests.all_reduce", "rccl-tests", "rocm")
    assert (row.chip_id, row.group_size, row.tool_version) == ("mi300x-192gb", 8, "develop:83d38d9")


def test_before_2019_times_are_milliseconds() -> None:
    found = imported("nccl_2018_ms_all_reduce.txt")
    assert placed(found.rows)[0].time_median_s == 64e-6
    assert placed(found.rows)[0].algbw_bytes_per_s == pytest.approx(157.38e9, rel=0.01)
    assert {row.variant for row in found.rows} == {None, "redop=prod", "redop=max"}
    assert [row.dtype for row in placed(found.rows)] == ["int8", "int8", "int32", "fp16"]
    assert all(row.group_size == 1 and row.busbw_bytes_per_s == 0 for row in found.rows)
    assert any("cut short" in sentence for sentence in found.unmapped)


def test_until_2020_all_gather_printed_an_algbw_without_the_own_part() -> None:
    row = placed(imported("nccl_2020_all_gather_wrong.txt").rows)[0]
    assert row.group_size == 8
    assert row.busbw_bytes_per_s == pytest.approx(129.05e9, abs=0.005e9)
    assert row.algbw_bytes_per_s == pytest.approx(4294967296 / 29122e-6)
    assert row.flags == "group_size follows from the printed figures, the ranks are not listed"


def test_a_relative_difference_above_the_old_limit_is_incorrect() -> None:
    row = imported("nccl_2020_all_gather_wrong.txt").rows[0]
    # 1e-5 for float, times ranks - 1: DeltaMaxValue in src/common.cu of cbe7f65.
    assert (row.status, row.error) == ("incorrect", 1.0)
    assert row.error_limit == pytest.approx(7e-5)


def test_wrong_elements_are_incorrect() -> None:
    rows = placed(imported("nccl_2024_wrong.txt").rows)
    assert [(row.status, row.error) for row in rows] == [("ok", 0.0), ("ok", 0.0), ("incorrect", 237858.0)]
    assert rows[-1].reason == "237858 elements are wrong"


def test_unchecked_results_have_no_error() -> None:
    rows = imported("nccl_2024_sendrecv.txt").rows
    assert (rows[0].op, rows[0].chip_id) == ("send_recv", "a40-pcie-48gb")
    assert [row.error for row in rows if row.in_place] == [None, None]
    assert (rows[-1].in_place, rows[-1].size_bytes) == (False, 8192)  # its other half is cut off


def test_several_runs_in_one_log_are_told_apart() -> None:
    rows = imported("nccl_2020_gather_then_broadcast.txt").rows
    assert [row.op for row in rows] == ["all_gather"] * 6 + ["broadcast"] * 2
    assert (rows[0].group_size, rows[-1].group_size) == (2, 2)
    assert (rows[-1].libraries, rows[-1].error, rows[-1].chip_id) == ("nccl=2.9.6+cuda11.2", None, "v100-pcie-16gb")
    assert rows[0].device_name is None


def test_a_rooted_reduction_is_a_reduce() -> None:
    rows = imported("nccl_2022_reduce_rooted.txt").rows
    assert {row.op for row in rows} == {"reduce"}
    assert {row.variant for row in rows} == {None}


def test_runs_that_did_not_know_of_each_other_are_groups_of_one() -> None:
    found = imported("nccl_2021_no_mpi.txt")
    assert {(row.group_size, row.node_count, row.fabric) for row in found.rows} == {(1, 1, "single")}
    assert len({row.run_id for row in found.rows}) == 2
    assert any("built without MPI" in sentence for sentence in found.unmapped)


def test_hashes_may_be_missing_as_markdown_takes_them() -> None:
    rows = imported("nccl_2021_no_hashes.txt").rows
    assert [(row.group_size, row.chip_id, row.size_bytes) for row in rows] == [(2, "a100-sxm-40gb", 1048576)] * 2


def test_what_launchers_put_before_lines_is_taken_off() -> None:
    found = imported("nccl_2024_tagged_mpi_all_reduce.txt")
    assert [row.size_bytes for row in placed(found.rows)] == [8, 16, 32]
    assert (found.rows[0].time_median_s, found.rows[0].calls_per_sample, found.rows[0].group_size) == (12.90e-6, 100, 2)
    assert found.unmapped == ()


@pytest.mark.parametrize(
    "prefix",
    [
        "[1,0]<stdout>:",
        "[1,0]<stdout>: ",
        "[prterun-node1-1@1,0]<stdout>: ",
        "0: ",
        "[0] ",
        "2026-01-02T03:04:05.678901234Z ",
        "node-1.x: ",
        "> ",
    ],
)
def test_each_launchers_prefix_leaves_the_same_rows(tmp_path: Path, prefix: str) -> None:
    lines = (DATA / "nccl_2026_gb10.txt").read_text().splitlines()
    (tmp_path / "log.txt").write_text("".join(f"{prefix}{line}\n" for line in lines))
    importer = recognise(tmp_path / "log.txt")
    assert importer is not None
    found = importer.read(tmp_path / "log.txt", Hints())
    assert [(row.time_median_s, row.group_size, row.tool_version) for row in found.rows] == [
        (row.time_median_s, row.group_size, row.tool_version) for row in imported("nccl_2026_gb10.txt").rows
    ]


def test_lines_that_nccls_own_log_tears_apart_are_put_together() -> None:
    found = imported("nccl_2024_logs_within_lines_all_reduce.txt")
    assert [(row.size_bytes, row.time_median_s) for row in found.rows] == [(8192, 75.38e-6), (8192, 74.53e-6)]
    assert any("cut short" in sentence for sentence in found.unmapped)


def test_sizes_of_nothing_are_told_not_kept() -> None:
    found = imported("nccl_2023_zero_sizes_reduce_scatter.txt")
    assert [row.size_bytes for row in placed(found.rows)] == [128, 256]
    assert any("size 0" in sentence and "4" in sentence for sentence in found.unmapped)


@pytest.mark.parametrize(
    ("name", "ranks"),
    [("nccl_2024_all_gather_no_ranks.txt", 2), ("nccl_2025_gb200_rack.txt", 72), ("rccl_2026_alltoall.txt", 2), ("nccl_2024_wrong.txt", 2)],
)
def test_the_number_of_ranks_follows_from_the_figures_where_it_is_not_listed(name: str, ranks: int) -> None:
    rows = imported(name).rows
    assert {row.group_size for row in rows} == {ranks}
    assert all("not listed" in str(row.flags) for row in rows)


def test_hypercube_with_an_empty_redop_and_timestamps_reads() -> None:
    found = imported("nccl_hypercube_timestamps.txt")
    first = found.rows[0]
    # By hand: 1 MiB in 100 us; three of four parts come from others.
    assert (first.algbw_bytes_per_s, first.busbw_bytes_per_s) == (pytest.approx(10.48576e9), pytest.approx(7.86432e9))
    assert (first.launch, first.variant, first.calls_per_sample, first.flags) == ("graph", "blocking=1;unalign=1", 100, None)
    assert any("timestamp" in sentence for sentence in found.unmapped)


def test_a_cpu_time_is_not_taken_for_the_collectives() -> None:
    found = imported("nccl_per_iteration_cputime_all_reduce.txt")
    row = found.rows[0]
    assert (row.time_median_s, row.variant, row.algbw_bytes_per_s, row.busbw_bytes_per_s) == (5e-6, "time=cpu", None, None)
    assert "CPU" in str(row.flags)
    assert any("i_p99" in sentence for sentence in found.unmapped)


def test_the_json_reads_with_its_single_calls() -> None:
    found = imported("nccl_tests_J.json")
    mean, each, in_place, last = found.rows
    assert (mean.time_median_s, mean.group_size, mean.node_count) == (100e-6, 4, 2)  # one entry a process of two GPUs
    assert (mean.busbw_bytes_per_s, mean.flags) == (pytest.approx(15.72864e9), None)
    assert mean.config == "time=the slowest rank's"
    assert (each.variant, each.samples_s, each.time_statistic) == ("timing=each_call", (90e-6, 94e-6, 92e-6), None)
    assert each.time_median_s == pytest.approx(92e-6)
    assert (in_place.status, in_place.error) == ("incorrect", 3.0)
    assert last.error is None


def test_printed_bandwidths_that_contradict_size_and_time_are_flagged() -> None:
    found = imported("nccl_tests_J.json")
    assert "do not follow" in str(found.rows[-1].flags)
    assert any("do not follow" in sentence for sentence in found.unmapped)


def test_records_of_rccl_tests_read_without_and_with_mpi() -> None:
    found = imported("rccl_records.json")
    assert [(row.size_bytes, row.in_place, row.group_size, row.node_count) for row in found.rows] == [
        (1024, False, 4, None),
        (1024, True, 4, None),
        (2048, False, 4, 1),
    ]
    assert found.rows[0].busbw_bytes_per_s == pytest.approx(0.08006609623048194e9)
    assert len(found.unmapped) == 1


def test_rccl_csv_whose_header_lacks_a_column_is_read_as_it_was_meant() -> None:
    (row,) = imported("rccl_records.csv").rows
    assert (row.node_count, row.group_size, row.size_bytes, row.dtype) == (1, 8, 1048576, "fp32")
    assert row.busbw_bytes_per_s == pytest.approx(32.97e9, abs=0.005e9)
    assert row.flags is None


def test_what_rccl_chose_is_the_algorithm_and_the_config() -> None:
    found = imported("rccl_algo_columns.txt")
    (row,) = found.rows
    assert (row.in_place, row.time_median_s, row.algorithm, row.config) == (True, 100e-6, "ring", "proto=ll128;nchannels=56")
    assert any("hipevt" in sentence for sentence in found.unmapped)


def test_what_the_file_does_not_tell_comes_from_the_user() -> None:
    (row, *_) = imported("nccl_2025_gb200_rack.txt", Hints(chip_id="gb200", fabric="nvlink", node_count=18)).rows
    assert (row.chip_id, row.fabric, row.node_count) == ("gb200", "nvlink", 18)
    (row, *_) = imported("rccl_2025_mi300x.txt", Hints(chip_id="gb200")).rows
    assert row.chip_id == "mi300x-192gb"


def test_a_table_whose_collective_nothing_tells_is_an_error_that_says_how_to_tell(tmp_path: Path) -> None:
    shutil.copy(DATA / "nccl_2024_tagged_mpi_all_reduce.txt", tmp_path / "log.txt")
    importer = recognise(tmp_path / "log.txt")
    assert importer is not None
    with pytest.raises(FileError, match=r"log\.txt, line 9: which collective was run is not told; keep the line with the command"):
        importer.read(tmp_path / "log.txt", Hints())


def test_powershells_utf_16_reads(tmp_path: Path) -> None:
    text = (DATA / "nccl_2026_gb10.txt").read_text()
    (tmp_path / "log.txt").write_bytes(text.encode("utf-16"))
    importer = recognise(tmp_path / "log.txt")
    assert importer is not None
    assert len(importer.read(tmp_path / "log.txt", Hints()).rows) == 6


def test_each_of_our_patterns_but_the_barrier_has_a_test_of_that_name() -> None:
    assert set(patterns()) - set(OPS.values()) == {"barrier"}
