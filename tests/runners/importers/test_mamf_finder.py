"""mamf-finder's logs as rows. Times follow by hand from 2 m n k and the rate."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipassay.results.errors import FileError
from chipassay.runners.importers.importer import Hints, Imported
from chipassay.runners.importers.mamf_finder import IMPORTER

DATA = Path(__file__).parent / "data"


def imported(name: str) -> Imported:
    return IMPORTER.read(DATA / name, Hints())


def test_a_line_gives_median_and_fastest_time() -> None:
    row = imported("mamf_terminal.txt").rows[0]
    assert (row.op, row.m, row.n, row.k, row.dtype, row.scaling) == ("matmul", 1024, 2048, 4096, "fp8_e4m3", "per_tensor")
    assert row.flops == 2**34
    assert row.time_median_s == pytest.approx(2**34 / 1024e12)
    assert row.time_min_s == pytest.approx(2**34 / 1100e12)
    assert (row.rate_flops_per_s, row.time_statistic, row.cache) == (pytest.approx(1024e12), None, "cold")
    assert (row.chip_id, row.device_kind, row.libraries) == ("h100-sxm-80gb", "cuda", "torch=2.7.0+cu126;cuda=12.6")
    assert (row.tool, row.method_version) == ("mamf-finder", 2)


def test_a_rate_without_end_is_told_and_the_others_kept() -> None:
    found = imported("mamf_terminal.txt")
    assert (found.rows[1].rate_flops_per_s, found.rows[1].time_min_s) == (pytest.approx(912.5e12), None)
    assert any("no number" in sentence for sentence in found.unmapped)
    assert any("cut short" in sentence for sentence in found.unmapped)


def test_the_summary_tells_shapes_that_no_line_did() -> None:
    (row,) = imported("mamf_v2.txt").rows
    assert (row.m, row.n, row.k, row.layout) == (4096, 4096, 2048, "nt")
    assert row.rate_flops_per_s == pytest.approx(91.6e12)
    assert row.time_min_s == pytest.approx(2 * 4096 * 4096 * 2048 / 92.9e12)
    assert (row.device_kind, row.device_memory_bytes, row.sample_count, row.warmup_count) == ("xpu", 15473 * 2**20, 100, 50)


def test_before_2025_the_second_edge_was_the_summed_one() -> None:
    (row,) = imported("mamf_v1.txt").rows
    assert (row.m, row.k, row.n) == (12288, 14336, 15872)
    (row,) = imported("mamf_pair.txt").rows
    assert (row.m, row.k, row.n, row.layout) == (1024, 2048, 4096, "nn")


def test_a_label_decides_over_the_order_of_the_line(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("** Dtype: torch.bfloat16\nmean:   10.0 TFLOPS @ 256x512x1024 (MxKxN)\n")
    (row,) = IMPORTER.read(path, Hints()).rows
    assert (row.m, row.k, row.n) == (256, 512, 1024)


def test_a_rate_beside_the_shape_of_another_is_not_taken() -> None:
    found = imported("mamf_v1.txt")
    assert [row.rate_flops_per_s for row in found.rows] == [pytest.approx(831.7e12)]
    assert any("not that of the shape" in sentence for sentence in found.unmapped)


def test_the_first_version_tells_the_fastest_call_with_a_warm_cache() -> None:
    rows = imported("mamf_v1_fixed.txt").rows
    assert [(row.time_statistic, row.cache, row.rate_flops_per_s) for row in rows] == [
        ("min", "warm", pytest.approx(50e12)),
        ("min", "warm", pytest.approx(40e12)),
    ]
    assert (rows[0].tool_version, rows[0].method_version) == (None, None)


def test_a_dtype_nobody_told_keeps_the_shapes_out(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("The best outcome was 831.7TFLOPS @ 12288x14336x15872 (MxNxK) (tried 1 shapes)\n")
    found = IMPORTER.read(path, Hints())
    assert found.rows == ()
    assert any("dtype" in sentence for sentence in found.unmapped)


def test_a_header_alone_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("python mamf-finder.py\n** Dtype: torch.bfloat16\n")
    with pytest.raises(FileError, match="no shape in there"):
        IMPORTER.read(path, Hints())
