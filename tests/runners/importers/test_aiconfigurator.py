"""aiconfigurator-core's tables: small ones in the layout of the real ones, and one chip's real ones where the package is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.kernels.attention.case import AttentionCase, DecodeCase
from chipassay.kernels.matmul.case import MatmulCase
from chipassay.results.errors import FileError, InputError, UnknownName
from chipassay.results.schema import NAMES, Row
from chipassay.results.table import TableWriter, read_rows
from chipassay.runners.importers import aiconfigurator
from chipassay.runners.importers.aiconfigurator import read
from chipassay.runners.importers.importer import Hints, recognise

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow, of the extra aiconfigurator, is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, of the extra aiconfigurator, is not installed")

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core, the extra aiconfigurator, is not installed"
)

COMMON: dict[str, Any] = {"framework": "VLLM", "version": "0.24.0", "device": "NVIDIA H200", "kernel_source": "some_kernel"}
HEADS: dict[str, Any] = {"batch_size": 4, "isl": 64, "num_heads": 8, "num_key_value_heads": 2, "head_dim": 128, "beam_width": 1}
TYPES: dict[str, Any] = {"attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "window_size": 0}
GEMM: dict[str, Any] = {**COMMON, "op_name": "gemm", "gemm_dtype": "bfloat16", "m": 3, "n": 5, "k": 7, "latency": 0.25}
CONTEXT: dict[str, Any] = {**COMMON, "op_name": "context_attention", **HEADS, **TYPES, "step": 0, "latency": 0.5}
GENERATION: dict[str, Any] = {**COMMON, "op_name": "generation_attention", **HEADS, **TYPES, "isl": 1, "step": 1023, "latency": 0.5}
NCCL: dict[str, Any] = {
    **COMMON,
    "framework": "TRTLLM",
    "version": "2.27.3",
    "kernel_source": "NCCL",
    "op_name": "alltoall",
    "nccl_dtype": "half",
    "num_gpus": 8,
    "message_size": 1024,
    "latency": 0.01,
}
CUSTOM: dict[str, Any] = {
    **COMMON,
    "kernel_source": "vLLM_custom_graph",
    "op_name": "all_reduce",
    "allreduce_dtype": "bfloat16",
    "num_gpus": 4,
    "message_size": 512,
    "latency": 0.02,
    "backend": "vllm_graph",
}


def table(path: Path, *lines: dict[str, Any]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(list(lines)), path)
    return path


def rows(path: Path, *lines: dict[str, Any], hints: Hints = Hints()) -> tuple[Row, ...]:  # noqa: B008 (frozen)
    return read(table(path, *lines), hints).rows


def columns(row: Row, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(row, name)) is not None}


def test_a_linear_layer_is_a_product_with_the_weight_transposed(tmp_path: Path) -> None:
    path = table(tmp_path / "gemm_perf.parquet", GEMM)
    importer = recognise(path)
    assert importer is not None
    assert importer.kind == "aiconfigurator"
    (row,) = importer.read(path, Hints()).rows
    case = MatmulCase(**columns(row, "m", "n", "k", "layout", "dtype"))
    assert (case.m, case.n, case.k, case.layout, case.dtype) == (3, 5, 7, "nt", "bf16")
    assert (row.flops, row.bytes, row.time_median_s) == (case.flops, case.bytes, 0.25e-3)
    assert row.rate_flops_per_s == pytest.approx(2 * 3 * 5 * 7 / 0.25e-3)
    assert (row.chip_id, row.device_name, row.backend, row.libraries) == ("h200-sxm-141gb", "NVIDIA H200", "vllm", "vllm=0.24.0")
    assert (row.tool, row.tool_version, row.time_statistic, row.variant) == ("aiconfigurator-core", None, "mean", None)


@pytest.mark.parametrize(
    ("scheme", "dtype"), [("fp8", "fp8_e4m3"), ("fp8_block", "fp8_e4m3"), ("sq", "int8"), ("int4_wo", "bf16"), ("nvfp4", "nvfp4")]
)
def test_a_quantised_layer_is_a_case_of_its_own(tmp_path: Path, scheme: str, dtype: str) -> None:
    (row,) = rows(tmp_path / "t.parquet", {**GEMM, "gemm_dtype": scheme})
    assert (row.dtype, row.variant, row.bytes) == (dtype, f"gemm_dtype={scheme}", None)


def test_sglang_s_int8_layers_compute_in_int8(tmp_path: Path) -> None:
    theirs, others = rows(tmp_path / "t.parquet", *({**GEMM, "gemm_dtype": "int8_wo", "framework": name} for name in ("SGLang", "TRTLLM")))
    assert (theirs.dtype, others.dtype) == ("int8", "bf16")
    assert theirs.variant == others.variant == "gemm_dtype=int8_wo"


ATTENTION_COLUMNS = (*("batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim", "causal", "window", "direction", "dtype"),)


@pytest.mark.parametrize("window", [0, 16, 64, 1000])
def test_prefill_counts_as_our_own_causal_attention(tmp_path: Path, window: int) -> None:
    (row,) = rows(tmp_path / "t.parquet", {**CONTEXT, "window_size": window})
    case = AttentionCase(**columns(row, *ATTENTION_COLUMNS))
    assert (case.batch, case.heads, case.kv_heads, case.seq_q, case.seq_kv, case.causal) == (4, 8, 2, 64, 64, True)
    assert case.window == (window or None)
    assert (row.flops, row.bytes) == (case.flops, case.bytes)


def test_generation_reads_the_history_and_its_own_position(tmp_path: Path) -> None:
    (row,) = rows(tmp_path / "t.parquet", GENERATION)
    case = DecodeCase(**columns(row, *ATTENTION_COLUMNS))
    assert (row.op, case.seq_q, case.seq_kv) == ("decode", 1, 1024)
    assert (row.flops, row.bytes) == (case.flops, case.bytes)
    assert row.bandwidth_bytes_per_s == pytest.approx(case.bytes / 0.5e-3)


def test_a_narrow_cache_is_a_case_of_its_own_and_half_the_bytes(tmp_path: Path) -> None:
    (row,) = rows(tmp_path / "t.parquet", {**GENERATION, "kv_cache_dtype": "fp8"})
    assert (row.dtype, row.variant) == ("bf16", "kv_cache=fp8_e4m3")
    assert row.bytes == 4 * 128 * (2 * 8 * 2 + 2 * 2 * 1024 * 1)
    (row,) = rows(tmp_path / "t.parquet", {**CONTEXT, "attn_dtype": "fp8", "kv_cache_dtype": "fp8"})
    assert (row.dtype, row.variant, row.bytes) == ("fp8_e4m3", None, None)


def test_a_table_before_windows_were_told_has_none(tmp_path: Path) -> None:
    (row,) = rows(tmp_path / "t.parquet", {name: value for name, value in CONTEXT.items() if name != "window_size"})
    assert row.window is None


def test_an_encoder_sees_all_positions(tmp_path: Path) -> None:
    line = {**COMMON, "op_name": "encoder_attention", "batch_size": 2, "isl": 100, "num_heads": 4, "head_dim": 72}
    (row,) = rows(tmp_path / "t.parquet", {**line, "attn_dtype": "bfloat16", "latency": 0.5})
    case = AttentionCase(**columns(row, *ATTENTION_COLUMNS))
    assert (case.causal, case.kv_heads) == (False, 4)
    assert (row.flops, row.bytes) == (case.flops, case.bytes)


def test_message_sizes_count_elements(tmp_path: Path) -> None:
    (row,) = rows(tmp_path / "t.parquet", NCCL, hints=Hints(node_count=1, fabric="nvlink"))
    assert (row.op, row.dtype, row.elements, row.size_bytes, row.group_size, row.in_place) == ("all_to_all", "fp16", 1024, 2048, 8, False)
    assert (row.backend, row.kernel, row.libraries, row.node_count, row.fabric) == ("nccl", "NCCL", "nccl=2.27.3", 1, "nvlink")
    assert row.algbw_bytes_per_s == pytest.approx(2048 / 10e-6)
    assert row.busbw_bytes_per_s == pytest.approx(2048 / 10e-6 * 7 / 8)
    (row,) = rows(tmp_path / "t.parquet", {**NCCL, "nccl_dtype": "int8"})
    assert (row.size_bytes, row.node_count, row.fabric) == (1024, None, None)


def test_a_framework_s_all_reduce_names_framework_and_launch(tmp_path: Path) -> None:
    graph, eager = rows(tmp_path / "t.parquet", CUSTOM, {**CUSTOM, "kernel_source": "vLLM_custom_eager"})
    assert (graph.op, graph.size_bytes, graph.backend, graph.launch) == ("all_reduce", 1024, "vllm", "graph")
    assert eager.launch == "stream"
    assert graph.busbw_bytes_per_s == pytest.approx(1024 / 20e-6 * 2 * 3 / 4)


def test_a_case_that_stands_several_times_is_several_runs(tmp_path: Path) -> None:
    found = rows(tmp_path / "t.parquet", NCCL, {**NCCL, "latency": 0.02}, {**NCCL, "message_size": 2048}, NCCL)
    first = found[0].run_id
    assert [row.run_id for row in found] == [first, f"{first}-2", first, f"{first}-3"]


def test_what_is_no_case_here_is_counted_with_its_first_place(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.parquet",
        GEMM,
        {**GEMM, "latency": 0.0},
        {**GEMM, "m": 0},
        {**GEMM, "latency": None},
        {**GEMM, "gemm_dtype": "fp3"},
        {**GEMM, "op_name": "dance"},
    )
    imported = read(path, Hints())
    assert len(imported.rows) == 1
    assert imported.unmapped == (
        f"gemm: sizes or time that are no case here (3 times, first in {path}, row 2)",
        f"gemm: a type unknown here ({path}, row 5)",
        f"dance: no such operation here ({path})",
    )
    prefix = read(table(tmp_path / "c.parquet", {**CONTEXT, "step": 64}, {**CONTEXT, "beam_width": 2}), Hints())
    assert (prefix.rows, prefix.unmapped[0].count("2 times")) == ((), 1)
    moe = read(table(tmp_path / "moe_perf.parquet", {**COMMON, "op_name": "moe", "moe_dtype": "fp8", "latency": 1.0}), Hints())
    assert moe.unmapped == (f"moe: no such operation here, or several in one time ({tmp_path / 'moe_perf.parquet'})",)


def test_an_old_table_without_device_is_of_the_chip_that_its_folder_names(tmp_path: Path) -> None:
    old = {name: value for name, value in NCCL.items() if name not in ("framework", "version", "device")}
    folder = tmp_path / "h100_sxm" / "comm"
    folder.mkdir(parents=True)
    (row,) = read(table(folder / "nccl_perf.parquet", old).parent, Hints(chip_id="other")).rows
    assert (row.chip_id, row.device_name, row.libraries) == ("h100-sxm-80gb", None, None)
    (row,) = rows(tmp_path / "t.parquet", old, hints=Hints(chip_id="h20-96gb"))
    assert row.chip_id == "h20-96gb"


def test_rows_survive_the_csv(tmp_path: Path) -> None:
    kinds = ((CONTEXT, {**CONTEXT, "window_size": 8}), (NCCL,), (CUSTOM,), (GEMM,))
    found = [row for number, lines in enumerate(kinds) for row in rows(tmp_path / f"{number}.parquet", *lines)]
    with TableWriter(tmp_path / "rows.csv") as writer:
        writer.extend(found)
    for before, after in zip(found, read_rows(tmp_path / "rows.csv"), strict=True):
        assert {name: getattr(after, name) for name in NAMES} == {name: getattr(before, name) for name in NAMES}


def test_missing_parts_are_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiconfigurator, "data_folder", lambda: None)
    with pytest.raises(InputError, match=r"pip install chipassay\[aiconfigurator\]"):
        read(Path("h200_sxm"), Hints())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pyarrow; pip install chipassay\[aiconfigurator\]"):
        read(table(tmp_path / "t.parquet", GEMM), Hints())


def test_other_columns_or_no_tables_are_refused(tmp_path: Path) -> None:
    broken = {name: value for name, value in GEMM.items() if name != "n"}
    with pytest.raises(FileError, match=r"t\.parquet: has other columns"):
        read(table(tmp_path / "t.parquet", broken), Hints())
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="no parquet files"):
        read(tmp_path / "empty", Hints())
    with pytest.raises(FileError, match="does not exist"):
        read(Path("nothing.parquet"), Hints())


@settings(derandomize=True, max_examples=80, deadline=None)
@given(cut=st.integers(0, 12000), junk=st.binary(min_size=1, max_size=20), end=st.booleans())
def test_any_damage_is_a_named_error_or_a_full_read(tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes, end: bool) -> None:
    path = table(tmp_path_factory.mktemp("damage") / "r.parquet", CONTEXT, {**CONTEXT, "isl": 128})
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] if end else whole[:cut] + junk + whole[cut + len(junk) :])
    recognise(path)
    with contextlib.suppress(FileError):
        assert len(read(path, Hints()).rows) <= 2


@needs_package
def test_a_chip_of_the_package_is_found_by_either_name() -> None:
    theirs, ours = read(Path("a100_sxm/comm/nccl"), Hints()), read(Path("a100-sxm-80gb/comm/nccl"), Hints())
    assert len(theirs.rows) > 0
    assert theirs.rows == ours.rows
    assert {(row.chip_id, row.tool_version is not None) for row in theirs.rows} == {("a100-sxm-80gb", True)}
    # 600 GB/s is NVLink's sum of both directions on an A100: no message can have moved faster than half of it.
    assert max(row.busbw_bytes_per_s or 0.0 for row in theirs.rows) < 300e9


@needs_package
@pytest.mark.parametrize("name", ["a100", "a100_sxm/gem", "../systems", "a100_sxm/../.."])
def test_a_name_that_the_package_has_not_is_refused(name: str) -> None:
    with pytest.raises(UnknownName, match="unknown chip of aiconfigurator-core"):
        read(Path(name), Hints())
