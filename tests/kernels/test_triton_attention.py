"""The Triton attention kernels without a GPU: every tile in their tables compiles for its chip without spills, and the tables are sound.

That they compute the right thing is shown in the interpreter (test_triton.py, with cases_attention_triton.py).
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import pytest

from chipassay.kernels.attention import AttentionCase, DecodeCase
from chipassay.kernels.attention import triton_configs as tables
from chipassay.kernels.attention.triton_decode import MOST_SPLITS, chunk_keys
from chipassay.kernels.attention.triton_parts import cut, heads_together, lse_rows, padded
from chipassay.kernels.backends import installed, interpreting
from chipassay.kernels.kernel import Target, kernels

from .compiling import CHIPS, Compiled, Job, broken_limits, cannot_compile, compile_all

HEADS = {64: (64, 64), 128: (128, 128), 192: (192, 128), 256: (256, 256), 576: (576, 512)}
"""Width class -> the head that is compiled for it."""
TENSOR_CORES = {"sm_80": r"mma\.sync", "sm_90": r"wgmma\.mma_async|mma\.sync", "sm_100": r"tcgen05\.mma|mma\.sync", "gfx942": r"v_mfma_"}
WARP_GROUP = {"sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma"}
"""The instruction that runs at the chip's full rate; it needs tiles of 64 rows or more."""
SPILLS_OUTSIDE_THE_LOOPS = {
    ("sm_90", (128, 128), (64, 128, 8, 2)): 160,
    ("sm_90", (192, 128), (32, 64, 8, 2)): 160,
    ("sm_90", (256, 256), (16, 64, 8, 2)): 160,
}
"""Bytes a thread that the pass over keys may spill: with Triton 3.9 these tiles keep addresses of the first loads and last stores in memory
and nothing that a loop uses (no STL or LDL between its HGMMAs in the SASS); with Triton 3.6 less or nothing."""
INTEGERS = ("SEQ_Q", "SEQ_KV", "HEADS", "ALL_HEADS", "BLOCKS", "TOGETHER", "GROUP", "LSE_ROWS", "window", "ROWS", "CHUNK")
TYPES = {**dict.fromkeys(INTEGERS, "i32"), **dict.fromkeys(("lse", "delta"), "*fp32"), "scale": "fp32", "natural_scale": "fp32"}

needs_compiler = pytest.mark.skipif(
    not (installed("triton") and installed("torch")) or interpreting(),
    reason="triton is not installed (pip install triton, on Linux, with torch) or TRITON_INTERPRET is set",
)


def shape_constants(head: tuple[int, int]) -> dict[str, Any]:
    width, rest = cut(head[0])
    return {"HEAD_DIM": head[0], "HEAD_DIM_V": head[1], "DIM": width, "DIM_REST": rest, "DIM_V": padded(head[1]), "PRECISION": "ieee"}


def job(kernel: str, chip: str, head: tuple[int, int], tile: tuple[int, ...], types: dict[str, str], more: dict[str, Any]) -> Job:
    block_m, block_n, warps, stages = tile
    constants = {**shape_constants(head), "BLOCK_M": block_m, "BLOCK_N": block_n, **more}
    where = f"chipassay.kernels.attention.{kernel}"
    name = f"{kernel} {chip} {head} {tile} {more}"
    return Job(name, where, chip, TYPES | types, constants, {"num_warps": warps, "num_stages": stages})


def forward_job(chip: str, width: int, tile: tuple[int, ...], **more: Any) -> Job:
    flags = {"GROUP": 4, "CAUSAL": True, "WINDOW": False, "EVEN": True, "STORE_LSE": True, **more}
    return job("triton_forward:tile", chip, HEADS[width], tile, dict.fromkeys("qkvo", "*bf16"), flags)


def tma_job(chip: str, width: int, tile: tuple[int, ...], specialized: bool) -> Job:
    head, block_n = HEADS[width], tile[1]
    wide, rest = cut(head[0])
    flags: dict[str, Any] = {"GROUP": 4, "CAUSAL": True, "WINDOW": False, "EVEN": True, "STORE_LSE": False}
    flags |= {"WARP_SPECIALIZE": specialized, **({} if rest else {"k_rest": None})}
    types = {"q": "*bf16", "o": "*bf16", "k": f"tensordesc<bf16[{block_n}, {wide}]>", "v": f"tensordesc<bf16[{block_n}, {head[1]}]>"}
    types |= {"k_rest": f"tensordesc<bf16[{block_n}, {rest}]>"} if rest else {}
    return job("triton_forward:tile_tma", chip, head, tile, types, flags)


def gradient_job(kernel: str, chip: str, width: int, tile: tuple[int, ...]) -> Job:
    over_keys = kernel == "keys_tile"
    flags = {"CAUSAL": True, "WINDOW": False, "EVEN": True, **({"KEYS_EVEN": True} if over_keys else {})}
    types = dict.fromkeys(("q", "k", "v", "d_o", "d_q", "d_k", "d_v"), "*bf16")
    return job(f"triton_backward:{kernel}", chip, HEADS[width], tile, types, flags)


def decode_job(chip: str, width: int, tile: tuple[int, ...]) -> Job:
    types = {**dict.fromkeys("qkv", "*bf16"), "o": "*fp32"}
    return job("triton_decode:part", chip, HEADS[width], tile, types, {"SPLIT": True})


def jobs_of(chip: str) -> list[Job]:
    """Every tile of every table, each with the mask that takes the most registers of those that matter: causal."""

    def rows(table: tables.Table, name: str = chip) -> list[tuple[int, tuple[int, ...]]]:
        return [(width, tile) for width, tiles in table.get(name, {}).items() for tile in tiles]

    made = [forward_job(chip, width, tile) for width, tile in rows(tables.FORWARD)]
    made += [tma_job(chip, width, tile, False) for width, tile in rows(tables.TMA)]
    made += [tma_job(chip, width, tile, True) for width, tile in rows(tables.SPECIALIZED)]
    made += [gradient_job("keys_tile", chip, width, tile) for width, tile in rows(tables.KEYS_GRADIENT)]
    made += [gradient_job("queries_tile", chip, width, tile) for width, tile in rows(tables.QUERIES_GRADIENT)]
    return made + [decode_job(chip, width, tile) for width, tile in rows(tables.DECODE, chip if chip in tables.DECODE else "nvidia")]


def tolerated(job: Job, made: Compiled) -> Compiled:
    """The result without the spills that are known to do no harm."""
    c = job.constants
    tile = (c["BLOCK_M"], c["BLOCK_N"], job.options["num_warps"], job.options["num_stages"])
    allowed = SPILLS_OUTSIDE_THE_LOOPS.get((job.chip, (c["HEAD_DIM"], c["HEAD_DIM_V"]), tile), 0) if "keys_tile" in job.kernel else 0
    return dataclasses.replace(made, spill_bytes=0) if made.spill_bytes <= allowed else made


@needs_compiler
@pytest.mark.parametrize("chip", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_every_tile_compiles_to_tensor_core_instructions_without_spills_and_fits(chip: str) -> None:
    reason = cannot_compile(chip)
    if reason is not None:
        pytest.skip(reason)
    jobs = jobs_of(chip)
    made = compile_all(jobs)
    wrong = {job.name: broken_limits(job, tolerated(job, made[job.name])) for job in jobs}
    assert {name: reasons for name, reasons in wrong.items() if reasons} == {}
    without = [job.name for job in jobs if not re.search(TENSOR_CORES[chip], made[job.name].text)]
    assert without == []
    full_rate = WARP_GROUP.get(chip)
    if full_rate is not None:
        slow = [
            job.name for job in jobs if job.constants["BLOCK_M"] >= 64 and "keys" not in job.name and full_rate not in made[job.name].text
        ]
        assert slow == []


@needs_compiler
def test_specialised_warps_are_really_apart_and_take_no_more_queries_than_fit_their_buffers() -> None:
    """Triton halves the tile of queries for the two groups of consumers; a box of more rows would overrun what each has for it."""
    chip, tile = "sm_90", (128, 64, 4, 3)
    assert tile in tables.SPECIALIZED[chip][128]
    specialized = tma_job(chip, 128, tile, True)
    (made,) = compile_all([specialized]).values()
    if made.error:
        pytest.fail(made.error)
    assert made.threads == 3 * 128, "one group that loads and two that compute"
    boxes = re.findall(r"box_dim\.\S+ \[ ?%\w+(?: \+ 0)? ?\], 0x1, (%r\d+|\d+|0x\w+);", made.text)
    assert len(boxes) == 1, "one descriptor is made on the device, that of the queries"
    value = re.findall(rf"mov\.b32 +\t?{re.escape(boxes[0])}, (\d+);", made.text) or [boxes[0]]
    assert [int(number, 0) for number in value] == [tile[0] // 2]


@pytest.mark.parametrize("chip", sorted(CHIPS))
@pytest.mark.parametrize(("head_dim", "dtype"), list(itertools.product((16, 64, 128, 192, 256), ("bf16", "fp32"))))
def test_every_chip_and_head_has_tiles_for_training(chip: str, head_dim: int, dtype: str) -> None:
    arch = CHIPS[chip].arch
    target = Target("rocm", architecture=str(arch)) if chip.startswith("gfx") else Target("cuda", divmod(int(arch), 10))
    case = AttentionCase(batch=1, heads=2, kv_heads=1, seq_q=64, seq_kv=64, head_dim=head_dim, dtype=dtype, direction="backward")
    assert tables.forward_configs(tables.FORWARD, target, head_dim, head_dim, 2 if dtype == "bf16" else 4)
    assert tables.backward_configs(tables.KEYS_GRADIENT, target, case)
    assert tables.backward_configs(tables.QUERIES_GRADIENT, target, case)


def test_a_head_of_multi_head_latent_attention_is_not_padded_to_a_power_of_two() -> None:
    assert cut(192) == (128, 64)
    assert cut(576) == (512, 64)


@pytest.mark.parametrize("head_dim", range(1, 600))
def test_a_cut_head_covers_the_head_with_powers_of_two_and_wastes_less_than_one(head_dim: int) -> None:
    whole, rest = cut(head_dim)
    assert whole + rest >= head_dim
    assert whole + rest <= padded(head_dim)
    assert all(part & (part - 1) == 0 and part >= 16 for part in (whole, rest) if part)
    assert rest == 0 or whole < head_dim


def decode_case(**fields: Any) -> DecodeCase:
    return DecodeCase(**{"batch": 1, "heads": 8, "kv_heads": 1, "seq_kv": 4096, "head_dim": 128, "dtype": "bf16", **fields})


def test_few_query_heads_take_a_narrow_tile_and_many_a_wide_one() -> None:
    target = Target("cuda", (9, 0))
    assert {config["BLOCK_M"] for config in tables.decode_configs(decode_case(heads=8), target)} == {16}
    assert {config["BLOCK_M"] for config in tables.decode_configs(decode_case(heads=128), target)} == {64}


def test_decoding_refuses_what_no_tile_can_hold_and_says_so() -> None:
    (decode,) = kernels("decode", "triton")
    latent = decode_case(head_dim=576, head_dim_v=512, heads=128)
    assert decode.refuses(latent, Target("cuda", (9, 0))) is None
    reason = decode.refuses(latent, Target("cuda", (7, 5)))
    assert reason is not None
    reason = decode.refuses(decode_case(heads=128, head_dim=576, head_dim_v=512, dtype="fp16"), Target("cuda", (7, 5)))
    assert reason is not None
    assert "64 KiB" in reason


@pytest.mark.parametrize("seq_kv", [1, 63, 64, 65, 8192, 131072])
@pytest.mark.parametrize("row_programs", [1, 8, 1000])
def test_chunks_cover_the_cache_with_whole_tiles_and_not_too_many(seq_kv: int, row_programs: int) -> None:
    chunk = chunk_keys(seq_kv, block_n=64, row_programs=row_programs, wanted_programs=264)
    chunks = -(-seq_kv // chunk)
    assert chunk % 64 == 0
    assert chunks <= MOST_SPLITS
    assert chunks * row_programs <= max(264, row_programs)
    assert (chunks - 1) * chunk < seq_kv


def test_heads_run_together_only_where_rows_differ_in_length_and_as_many_as_the_cache_holds() -> None:
    shape: dict[str, Any] = {"batch": 4, "heads": 32, "kv_heads": 8, "seq_q": 8192, "seq_kv": 8192, "head_dim": 128, "dtype": "bf16"}
    assert heads_together(AttentionCase(**shape), 2) == 1
    assert heads_together(AttentionCase(**shape, causal=True), 2) == 16  # 4 MiB of keys and values a head, 4 query heads read them
    assert heads_together(AttentionCase(**{**shape, "seq_q": 256, "seq_kv": 256}, causal=True), 2) == 128


def test_log_sum_exps_are_padded_to_the_largest_tile_of_queries() -> None:
    tiles = [tile for chip in tables.QUERIES_GRADIENT.values() for column in chip.values() for tile in column]
    tiles += [tile for chip in tables.KEYS_GRADIENT.values() for column in chip.values() for tile in column]
    case = AttentionCase(batch=1, heads=1, kv_heads=1, seq_q=129, seq_kv=5, head_dim=16, dtype="bf16")
    assert all(lse_rows(case) % tile[0] == 0 and lse_rows(case) >= 129 for tile in tiles)


def test_tma_is_refused_with_a_reason_where_chip_or_rows_do_not_allow_it() -> None:
    by_name = {kernel.name: kernel for kernel in kernels("attention", "triton")}
    shape: dict[str, Any] = {"batch": 1, "heads": 1, "kv_heads": 1, "seq_q": 64, "seq_kv": 64, "dtype": "bf16"}
    for name in ("triton.attention.tma", "triton.attention.specialized"):
        refuses = by_name[name].refuses
        assert refuses(AttentionCase(**shape, head_dim=64), Target("cuda", (8, 0))) == "TMA needs compute capability 9.0"
        assert "multiples of 16 bytes" in str(refuses(AttentionCase(**shape, head_dim=60), Target("cuda", (9, 0))))
        assert "forward only" in str(refuses(AttentionCase(**shape, head_dim=64, direction="backward"), Target("cuda", (9, 0))))
