"""The Triton attention kernels without a GPU: their tiles compile for their chips without spills, and the tables are sound.

That they compute the right thing is shown in the interpreter (test_triton.py, with cases_attention_triton.py).
Here every tile of each table is compiled once; ``python -m tests.kernels.test_triton_attention sm_90`` compiles all of them, each for every
kind of case (masks, ragged sizes, dtypes): run it after a change of kernels or tables.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest

from chipassay.kernels.attention import AttentionCase, DecodeCase
from chipassay.kernels.attention import triton as forward
from chipassay.kernels.attention import triton_backward as backward
from chipassay.kernels.attention import triton_configs as tables
from chipassay.kernels.attention import triton_decode as decode
from chipassay.kernels.attention.triton_backward_configs import BACKWARD, BACKWARD_TMA, backward_configs
from chipassay.kernels.attention.triton_cost import backward_cost, forward_cost, tiles_of
from chipassay.kernels.attention.triton_decode import MOST_SPLITS, chunk_keys
from chipassay.kernels.attention.triton_parts import cut, heads_together, lse_rows, padded
from chipassay.kernels.backends import installed, interpreting
from chipassay.kernels.kernel import Target, kernels
from chipassay.kernels.triton_tools import refuses_descriptors

from .compiling import CHIPS, Compiled, Job, broken_limits, cannot_compile, compile_all
from .recording import launched

HEADS = {64: (64, 64), 128: (128, 128), 192: (192, 128), 256: (256, 256), 576: (576, 512)}
"""Width class -> the head that is compiled for it."""
TENSOR_CORES = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma", "gfx942": "v_mfma_"}
SHORTEST_WARPGROUP_TILE = 64
"""Rows of wgmma and tcgen05.mma: PTX ISA, their matrix shapes. Shorter tiles go to mma.sync."""
TARGETS = {
    "sm_80": Target("cuda", (8, 0)),
    "sm_90": Target("cuda", (9, 0)),
    "sm_100": Target("cuda", (10, 0)),
    "gfx942": Target("rocm", architecture="gfx942"),
}
PLAIN: dict[str, Any] = {"causal": True, "dtype": "bf16"}
KINDS: tuple[dict[str, Any], ...] = (
    {"causal": True, "dtype": "bf16", "window": 1000, "seq_q": 4001, "seq_kv": 4001},
    {"dtype": "fp16"},
    {"dtype": "bf16", "seq_q": 1023, "seq_kv": 4001},
    {"causal": True, "dtype": "tf32"},
    {"dtype": "fp32"},
)
"""Beside PLAIN, which tiles of every width are compiled for: of these those of 128."""

needs_compiler = pytest.mark.skipif(
    not (installed("triton") and installed("torch")) or interpreting(),
    reason="triton is not installed (pip install triton, on Linux, with torch) or TRITON_INTERPRET is set",
)


@dataclass(frozen=True)
class Entry:
    """A kernel to compile: which, for what, with how many rows of scores side by side."""

    job: Job
    case: AttentionCase
    held: int

    def faults(self, made: Compiled) -> list[str]:
        """What is wrong with the result."""
        found = broken_limits(self.job, made, tensor_kernel=self.held > 0)
        if found or self.held == 0 or self.case.dtype == "fp32":
            return found
        slow = self.held < SHORTEST_WARPGROUP_TILE and self.job.chip in ("sm_90", "sm_100")
        instruction = "mma.sync" if slow else TENSOR_CORES[self.job.chip]
        return [] if instruction in made.text else [f"no {instruction}"]


def said(name: str, chip: str, case: AttentionCase, config: dict[str, int]) -> str:
    return f"{name} {chip} {case} {' '.join(f'{k}={v}' for k, v in config.items())}"


def entries_of(name: str, chip: str, case: AttentionCase, config: dict[str, int]) -> Iterator[Entry]:
    """What a kernel launches for a case with a configuration."""
    import torch

    from chipassay.kernels.arrays_torch import TorchArrays

    def empty(heads: int, length: int, width: int, dtype: str = case.dtype) -> Any:
        return torch.empty((case.batch, heads, length, width), dtype=TorchArrays("cpu").dtype(dtype), device="meta")

    q, out = empty(case.heads, case.seq_q, case.head_dim), empty(case.heads, case.seq_q, case.dim_v)
    k, v = empty(case.kv_heads, case.seq_kv, case.head_dim), empty(case.kv_heads, case.seq_kv, case.dim_v)
    rows = empty(case.heads, lse_rows(case), 1, "fp32")

    def run() -> None:
        if name == "forward":
            forward.launch(case, (q, k, v), out, rows, config)
        elif name in ("tma", "specialized"):
            forward._bind(case, (q, k, v), out, name == "specialized", config)()
        elif name == "decode":
            with mock.patch.object(decode, "multiprocessors", return_value=132):
                decode.launch(case, (q, k, v), out, config)
        elif name == "rows":
            backward.launch_rows(case, out, out, rows)
        else:
            pass_over, _, tma = name.partition(".")
            written = (k, v) if pass_over == "keys" else (q,)
            read = backward._read(case, pass_over == "keys", (q, k, v, out), config, bool(tma))
            backward._launch(case, pass_over, read, (rows, rows), written, config, bool(tma))

    held = 0 if name == "rows" else config["BLOCK_N" if name.startswith("keys") else "BLOCK_M"]
    for job in launched(run, said(name, chip, case, config), chip):
        yield Entry(job, case, held if "combine" not in job.kernel else 0)


def case_of(width: int, **fields: Any) -> AttentionCase:
    shape: dict[str, Any] = {"batch": 1, "heads": 8, "kv_heads": 2, "seq_q": 4096, "seq_kv": 4096, **fields}
    return AttentionCase(**shape, head_dim=HEADS[width][0], head_dim_v=HEADS[width][1])


def tables_of(chip: str) -> Iterator[tuple[str, tables.Table]]:
    """The kernels of training that the chip and the installed Triton have, each with its table."""
    yield "forward", tables.FORWARD
    yield from BACKWARD.items()
    if refuses_descriptors(TARGETS[chip]) is None:
        yield "tma", tables.TMA
        if forward.refuses_specialized(case_of(128, **PLAIN), TARGETS[chip]) is None:
            yield "specialized", tables.SPECIALIZED
        yield from ((f"{name}.tma", table) for name, table in BACKWARD_TMA.items())


def decode_case(**fields: Any) -> DecodeCase:
    return DecodeCase(**{"batch": 1, "heads": 8, "kv_heads": 1, "seq_kv": 4096, "head_dim": 128, "dtype": "bf16", **fields})


def decodings(chip: str) -> Iterator[Entry]:
    """Tiles of decoding, with few query heads and with many."""
    for width, heads in itertools.product((64, 128, 256, 576), (8, 64)):
        case = decode_case(head_dim=HEADS[width][0], head_dim_v=HEADS[width][1], heads=heads)
        configs = [config for config in tables.decode_configs(case, TARGETS[chip]) if config["PROGRAMS"] == tables.PROGRAMS[0]]
        for config in configs:
            yield from entries_of("decode", chip, case, config)


def candidates(name: str, table: tables.Table, chip: str, case: AttentionCase) -> list[dict[str, int]]:
    """What the search would try."""
    if name in BACKWARD:
        return backward_configs(BACKWARD, name, TARGETS[chip], case)
    if name.endswith(".tma"):
        return backward_configs(BACKWARD_TMA, name.removesuffix(".tma"), TARGETS[chip], case)
    return tables.forward_configs(table, TARGETS[chip], case)


def entries(chip: str, exhaustive: bool = False) -> list[Entry]:
    """All candidates of each table and width for PLAIN, and the first for KINDS on one chip; ``exhaustive``: all for all."""
    found = list(decodings(chip))
    found += entries_of("rows", chip, case_of(128, **PLAIN), {})
    for name, table in tables_of(chip):
        direction = "backward" if name.partition(".")[0] in BACKWARD else "forward"
        for width in table.get(chip, {}):
            for kind in (PLAIN, *(KINDS if exhaustive or (width == 128 and chip == "sm_90") else ())):
                case = case_of(width, **kind, direction=direction)
                refuse = {"tma": forward.refuses_tma, "specialized": forward.refuses_specialized}.get(name, forward.refuses)
                if (forward.refuses_tma if name.endswith(".tma") else refuse)(case, TARGETS[chip]) is None:
                    configs = candidates(name, table, chip, case)
                    for config in configs if exhaustive or kind is PLAIN else configs[:1]:
                        found += entries_of(name, chip, case, config)
    return found


def faults(found: list[Entry]) -> dict[str, list[str]]:
    """Job name -> what is wrong, of those that have anything."""
    made = compile_all([entry.job for entry in found])
    wrong = {entry.job.name: entry.faults(made[entry.job.name]) for entry in found}
    return {name: reasons for name, reasons in wrong.items() if reasons}


@needs_compiler
@pytest.mark.parametrize("chip", TARGETS)
def test_kernels_compile_to_tensor_core_instructions_without_spills_and_fits(chip: str) -> None:
    reason = cannot_compile(chip)
    if reason is not None:
        pytest.skip(reason)
    assert faults(entries(chip)) == {}


@needs_compiler
def test_specialised_warps_are_really_apart_and_take_no_more_queries_than_fit_their_buffers() -> None:
    """Triton halves the tile of queries for the two groups of consumers; a box of more rows would overrun what each has for it."""
    chip, tile = "sm_90", (128, 64, 4, 3)
    assert tile in tables.SPECIALIZED[chip][128]
    case = case_of(128, **PLAIN)
    reason = forward.refuses_specialized(case, TARGETS[chip])
    if reason is not None:
        pytest.skip(reason)
    (entry,) = entries_of("specialized", chip, case, dict(zip(tables.NAMES, tile, strict=True)))
    (made,) = compile_all([entry.job]).values()
    if made.error:
        pytest.fail(made.error)
    assert made.threads == 3 * 128, "one group that loads and two that compute"
    boxes = re.findall(r"box_dim\.\S+ \[ ?%\w+(?: \+ 0)? ?\], 0x1, (%r\d+|\d+|0x\w+);", made.text)
    assert len(boxes) == 1, "one descriptor is made on the device, that of the queries"
    value = re.findall(rf"mov\.b32 +\t?{re.escape(boxes[0])}, (\d+);", made.text) or [boxes[0]]
    assert [int(number, 0) for number in value] == [tile[0] // 2]


def test_a_kernel_that_compiles_to_nothing_is_found_out() -> None:
    """Triton 3.6 does so where a tile does not fit Blackwell's tensor memory, and says nothing."""
    job = Job("x", "a:b", "sm_100", {}, {})
    empty = Compiled(text=".visible .entry x() { ret; }", registers=4, threads=256)
    assert broken_limits(job, empty) == []
    assert broken_limits(job, empty, tensor_kernel=True) == ["4 registers a thread: a kernel that does nothing"]
    assert "600 columns of tensor memory" in str(broken_limits(job, Compiled(registers=64, threads=256, tensor_columns=600)))


def test_every_chip_and_width_has_two_tiles_to_choose_from() -> None:
    found = [
        ("forward", tables.FORWARD),
        ("tma", tables.TMA),
        ("specialized", tables.SPECIALIZED),
        *BACKWARD.items(),
        *BACKWARD_TMA.items(),
    ]
    few = [(name, chip, width) for name, table in found for chip, column in table.items() for width, row in column.items() if len(row) < 2]
    assert few == []
    doubled = [row for _, table in found for column in table.values() for row in column.values() if len(set(row)) < len(row)]
    assert doubled == []


@pytest.mark.parametrize("chip", sorted(CHIPS))
@pytest.mark.parametrize(("head_dim", "dtype"), list(itertools.product((16, 64, 128, 192, 256), ("bf16", "fp32"))))
def test_every_chip_and_head_has_tiles_for_training(chip: str, head_dim: int, dtype: str) -> None:
    arch = CHIPS[chip].arch
    target = Target("rocm", architecture=str(arch)) if chip.startswith("gfx") else Target("cuda", divmod(int(arch), 10))
    case = AttentionCase(batch=1, heads=2, kv_heads=1, seq_q=64, seq_kv=64, head_dim=head_dim, dtype=dtype, direction="backward")
    assert tables.forward_configs(tables.FORWARD, target, case)
    for name in BACKWARD:
        assert backward_configs(BACKWARD, name, target, case) or "fp32 gradients" in str(forward.refuses(case, target))


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


def test_few_query_heads_take_a_narrow_tile_and_many_a_wide_one() -> None:
    target = Target("cuda", (9, 0))
    assert {config["BLOCK_M"] for config in tables.decode_configs(decode_case(heads=8), target)} == {16}
    assert {config["BLOCK_M"] for config in tables.decode_configs(decode_case(heads=128), target)} == {64}


def test_decoding_refuses_what_no_tile_can_hold_and_says_so() -> None:
    (kernel,) = kernels("decode", "triton")
    latent = decode_case(head_dim=576, head_dim_v=512, heads=128)
    assert kernel.refuses(latent, Target("cuda", (9, 0))) is None
    reason = kernel.refuses(latent, Target("cuda", (7, 5)))
    assert reason is not None
    reason = kernel.refuses(decode_case(heads=128, head_dim=576, head_dim_v=512), Target("cuda", (8, 6)))
    assert reason is not None
    assert "99 KiB" in reason


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
    found = [*BACKWARD.values(), *BACKWARD_TMA.values()]
    tiles = [tile for table in found for chip in table.values() for column in chip.values() for tile in column]
    case = AttentionCase(batch=1, heads=1, kv_heads=1, seq_q=129, seq_kv=5, head_dim=16, dtype="bf16")
    assert all(lse_rows(case) % tile[0] == 0 and lse_rows(case) >= 129 for tile in tiles)


def test_tma_is_refused_with_a_reason_where_chip_or_rows_do_not_allow_it() -> None:
    by_name = {kernel.name: kernel for kernel in kernels("attention", "triton")}
    shape: dict[str, Any] = {"batch": 1, "heads": 1, "kv_heads": 1, "seq_q": 64, "seq_kv": 64, "dtype": "bf16"}
    for name in ("triton.attention.tma", "triton.attention.specialized"):
        refuses = by_name[name].refuses
        assert refuses(AttentionCase(**shape, head_dim=64), Target("cuda", (8, 0))) == "TMA needs compute capability 9.0"
        assert "multiples of 16 bytes" in str(refuses(AttentionCase(**shape, head_dim=60), Target("cuda", (9, 0))))
        assert "use triton.attention" in str(refuses(AttentionCase(**shape, head_dim=64), Target("cuda", (12, 0))))
    gradients = AttentionCase(**shape, head_dim=64, direction="backward")
    assert "forward only" in str(by_name["triton.attention.specialized"].refuses(gradients, Target("cuda", (9, 0))))
    assert by_name["triton.attention.tma"].refuses(gradients, Target("cuda", (9, 0))) == refuses_descriptors(Target("cuda", (9, 0)))


@pytest.mark.parametrize("window", [None, 1, 100])
@pytest.mark.parametrize(("block_m", "block_n"), [(64, 64), (128, 32), (32, 128)])
def test_the_cost_counts_the_tiles_that_have_a_visible_pair(block_m: int, block_n: int, window: int | None) -> None:
    case = AttentionCase(batch=1, heads=1, kv_heads=1, seq_q=300, seq_kv=300, head_dim=16, dtype="bf16", causal=True, window=window)
    seen = {(i // block_m, j // block_n) for i in range(300) for j in range(i + 1) if window is None or j > i - window}
    assert tiles_of(case, block_m, block_n, over_keys=False) == len(seen)
    assert tiles_of(case, block_m, block_n, over_keys=True) == len(seen)


def test_large_tiles_are_predicted_to_pay_for_long_sequences_and_small_ones_for_few_rows() -> None:
    target = Target("cuda", (9, 0))
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")
    large, small = (dict(zip(names, tile, strict=True)) for tile in ((128, 128, 8, 2), (64, 64, 4, 2)))
    long, short = (AttentionCase(batch=2, heads=16, kv_heads=16, seq_q=n, seq_kv=n, head_dim=64, dtype="bf16") for n in (8192, 128))
    assert forward_cost(long, large, target) < forward_cost(long, small, target)
    assert forward_cost(short, large, target) > forward_cost(short, small, target)
    keys = [dict(zip(names, tile, strict=True)) for tile in ((64, 128, 8, 2), (64, 32, 8, 2))]
    assert backward_cost(long, "keys", keys[0], target) < backward_cost(long, "keys", keys[1], target)


if __name__ == "__main__":
    for chip in sys.argv[1:] or TARGETS:
        found = entries(chip, exhaustive=True)
        wrong = faults(found)
        print(f"{chip}: {len(found)} compiled, {len(wrong)} wrong", *(f"{name}: {reasons}" for name, reasons in wrong.items()), sep="\n  ")
