"""What the Triton matmul kernels compile to for chips that need not be here (no spills, tensor cores, TMA), and a search's candidates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chipassay.kernels.backends import installed, interpreting
from chipassay.kernels.kernel import Target
from chipassay.kernels.matmul import BatchedMatmulCase, GroupedMatmulCase, MatmulCase
from chipassay.kernels.matmul import triton as tiles
from chipassay.kernels.matmul import triton_grouped as grouped
from chipassay.kernels.matmul import triton_persistent as persistent
from chipassay.kernels.matmul import triton_split_k as split_k
from chipassay.kernels.matmul.product import Product
from chipassay.kernels.matmul.triton_common import Operands, installed_triton
from chipassay.kernels.matmul.triton_configs import grouped_configs, persistent_configs, split_configs, tile_configs
from chipassay.kernels.matmul.triton_cost import Machine, shared_bytes, tile_cost
from chipassay.kernels.triton_tools import refuses_descriptors

from .compiling import CHIPS, Compiled, Job, broken_limits, cannot_compile, compile_all
from .recording import launched

pytestmark = pytest.mark.skipif(
    not (installed("triton") and installed("torch")), reason="triton is not installed: pip install triton (Linux, with torch)"
)

TARGETS = {
    "sm_80": Target("cuda", (8, 0)),
    "sm_90": Target("cuda", (9, 0)),
    "sm_100": Target("cuda", (10, 0)),
    "sm_120": Target("cuda", (12, 0)),
    "gfx942": Target("rocm", architecture="gfx942"),
}
MACHINES = {chip: Machine.for_target(target) for chip, target in TARGETS.items()}
Config = dict[str, int]

SQUARE: dict[str, Any] = {"m": 4096, "n": 4096, "k": 4096}
OTHERS: tuple[dict[str, Any], ...] = (
    {"dtype": "fp16", "layout": "nn"},
    {"dtype": "bf16", "layout": "tn"},
    {"dtype": "fp8_e4m3", "layout": "nt", "scaling": "row_wise"},
    {"dtype": "fp8_e4m3", "layout": "nt", "math_mode": "fast_accum"},
    {"dtype": "fp8_e5m2", "layout": "nn"},
    {"dtype": "fp8_e5m2", "layout": "nt"},
    {"dtype": "int8", "layout": "nt"},
    {"dtype": "tf32", "layout": "nt"},
    {"dtype": "tf32", "layout": "tn"},
    {"dtype": "fp32", "layout": "nn"},
)
"""Beside bf16 in nt, the forward pass, in which every candidate is compiled: of these the first, which has the largest tile."""


def meta(case: Product) -> tuple[Operands, Any]:
    """The case's operands and output, without memory."""
    import torch

    from chipassay.kernels.arrays_torch import TorchArrays

    arrays = TorchArrays("cpu")

    def empty(shape: tuple[int, ...], dtype: str) -> Any:
        return torch.empty(shape, dtype=arrays.dtype(dtype), device="meta")

    stack = (case.groups,) if isinstance(case, BatchedMatmulCase | GroupedMatmulCase) else ()
    a_stack = () if isinstance(case, GroupedMatmulCase) else stack
    a, b = (empty((*s, *shape), d) for s, shape, d in zip((a_stack, stack), (case.a_shape, case.b_shape), case.input_dtypes(), strict=True))
    scales = () if getattr(case, "scaling", None) is None else (empty((case.m, 1), "fp32"), empty((1, case.n), "fp32"))
    return Operands.of(case, (a, b, *scales)), empty((*a_stack, case.m, case.n), case.output_dtype)


def tile_jobs(name: str, chip: str, case: MatmulCase | BatchedMatmulCase, config: Config) -> list[Job]:
    operands, out = meta(case)
    return launched(lambda: tiles.launch_of(case, operands, config, out, batches=getattr(case, "groups", 1))(), name, chip)


def persistent_jobs(name: str, chip: str, case: MatmulCase, config: Config) -> list[Job]:
    operands, out = meta(case)
    return launched(lambda: persistent.launch_of(case, operands, config, MACHINES[chip], out)(), name, chip)


def split_jobs(name: str, chip: str, case: MatmulCase, config: Config) -> list[Job]:
    operands, out = meta(case)
    workspace = out.new_empty(config["SPLIT"] * out.numel(), dtype={"int32": out.dtype}.get(case.output_dtype))
    return launched(lambda: split_k.split_launch_of(case, operands, config, out, workspace)(), name, chip)


def grouped_jobs(name: str, chip: str, case: GroupedMatmulCase, config: Config) -> list[Job]:
    import torch

    operands, out = meta(case)
    ends = torch.empty(case.groups, dtype=torch.int32, device="meta")
    return launched(lambda: grouped.launch_of(case, operands, ends, config, 132, out)(), name, chip)


def cheapest(configs: list[Config], case: MatmulCase, machine: Machine) -> Config:
    return min(configs, key=lambda config: tile_cost(case, config, machine))


def said(config: Config) -> str:
    return " ".join(f"{name}={value}" for name, value in config.items())


Entry = tuple[Job, Product, Config]


def entries() -> list[Entry]:
    """Every job with its case and configuration."""
    found: list[Entry] = []
    for chip, machine in MACHINES.items():
        if cannot_compile(chip) is not None:
            continue

        def add(make: Any, case: Any, config: Config, chip: str = chip) -> None:
            kernel = make.__name__.removesuffix("_jobs")
            named = f"{chip} {kernel} {case.dtype} {case.math_mode or ''} {case.layout} m={case.m} n={case.n} {said(config)}"
            found.extend((job, case, config) for job in make(named, chip, case, config))

        forward = MatmulCase(**SQUARE, dtype="bf16", layout="nt")
        if chip != "sm_120":  # its tiles are those of sm_80
            for config in tile_configs(forward, machine):
                add(tile_jobs, forward, config)
        has_tma = chip != "sm_80" and refuses_descriptors(TARGETS[chip]) is None
        for config in persistent_configs(forward, machine, installed_triton()) if has_tma else ():
            add(persistent_jobs, forward, config)
        for fields in OTHERS:
            case = MatmulCase(**SQUARE, **fields)
            if tiles.refuses(case, TARGETS[chip]) is None:
                add(tile_jobs, case, tile_configs(case, machine)[0])
            if has_tma and persistent.refuses(case, TARGETS[chip]) is None:
                add(persistent_jobs, case, persistent_configs(case, machine, installed_triton())[0])

        odd = MatmulCase(m=1000, n=1001, k=777, dtype="bf16", layout="nn")
        for config in tile_configs(odd, machine)[:3]:
            add(tile_jobs, odd, config)
        batched = BatchedMatmulCase(groups=64, m=512, n=512, k=128, dtype="bf16", layout="nt")
        add(tile_jobs, batched, tile_configs(batched, machine)[0])
        decode = MatmulCase(m=16, n=1024, k=16384, dtype="bf16", layout="nt")
        add(split_jobs, decode, cheapest(split_configs(decode, machine), decode, machine))
        experts = GroupedMatmulCase(groups=64, m=8192, n=2048, k=7168, dtype="bf16", layout="nt", split="uneven")
        for config in grouped_configs(experts, machine)[:2]:
            add(grouped_jobs, experts, config)
    return found


@pytest.fixture(scope="module")
def compiled() -> list[tuple[Job, Product, Config, Compiled]]:
    if interpreting():
        pytest.skip("TRITON_INTERPRET is set")
    all_entries = entries()
    made = compile_all([job for job, _, _ in all_entries])
    return [(job, case, config, made[job.name]) for job, case, config in all_entries]


def test_every_candidate_compiles_and_fits_its_chip_without_spills(compiled: list[tuple[Job, Product, Config, Compiled]]) -> None:
    wrong = {job.name: broken_limits(job, made) for job, _, _, made in compiled}
    assert {name: reasons for name, reasons in wrong.items() if reasons} == {}


TENSOR_CORES = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma", "sm_120": "mma.sync", "gfx942": "v_mfma"}
SHORTEST_WARPGROUP_TILE = 64
"""Rows of wgmma and tcgen05.mma: PTX ISA, their matrix shapes. Shorter tiles go to mma.sync."""


def test_every_product_but_fp32_is_computed_by_tensor_cores(compiled: list[tuple[Job, Product, Config, Compiled]]) -> None:
    wanting = []
    for job, case, config, made in compiled:
        if case.dtype == "fp32" or job.kernel.endswith("add_parts"):
            continue
        short = config["BLOCK_M"] < SHORTEST_WARPGROUP_TILE and job.chip in ("sm_90", "sm_100")
        transposed = case.dtype not in ("bf16", "fp16") and case.layout != "nt"  # wgmma reads 16-bit operands alone in either order
        allowed = {TENSOR_CORES[job.chip]} | ({"mma.sync"} if short or transposed else set())
        if not any(instruction in made.text for instruction in allowed):
            wanting.append(job.name)
    assert wanting == []


def test_fp32_is_never_tf32_and_tf32_always_is(compiled: list[tuple[Job, Product, Config, Compiled]]) -> None:
    nvidia = [(job, case, made) for job, case, _, made in compiled if job.chip != "gfx942" and case.dtype in ("fp32", "tf32")]
    assert [job.name for job, case, made in nvidia if ("tf32" in made.text) is not (case.dtype == "tf32")] == []


def test_persistent_kernels_load_through_tma_and_specialise_where_they_say_so(
    compiled: list[tuple[Job, Product, Config, Compiled]],
) -> None:
    persistent_ones = [(job, config, made) for job, _, config, made in compiled if job.kernel.endswith(":persistent")]
    if not persistent_ones:
        pytest.skip(f"no tensor descriptors in Triton {installed_triton()}")
    assert [job.name for job, _, made in persistent_ones if "cp.async.bulk.tensor" not in made.text] == []
    # Specialised warps hand registers over to each other.
    assert [job.name for job, config, made in persistent_ones if ("setmaxnreg" in made.text) is not bool(config["SPECIALIZE"])] == []


def test_the_predicted_shared_memory_is_what_the_loops_take(compiled: list[tuple[Job, Product, Config, Compiled]]) -> None:
    """At most what is taken, barriers aside: else the search would drop candidates that fit. What is turned in registers may take less."""
    loops = [(job, case, config, made) for job, case, config, made in compiled if job.kernel.endswith((":tile", ":persistent"))]
    checked = [(job, case, config, made) for job, case, config, made in loops if case.layout == "nt" or case.dtype in ("bf16", "fp16")]
    too_much = {
        job.name: (shared_bytes(case, config, MACHINES[job.chip]), made.shared_bytes)
        for job, case, config, made in checked
        if case.m == SQUARE["m"] and shared_bytes(case, config, MACHINES[job.chip]) > made.shared_bytes + 1024
    }
    assert too_much == {}


def test_random_products_are_right_in_the_interpreter_in_every_form() -> None:
    script = Path(__file__).with_name("interpret_triton_matmul.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    forms = 4 if refuses_descriptors(TARGETS["sm_90"]) else 4 + 6
    assert len(done.stdout.splitlines()) == forms


@pytest.mark.parametrize("chip", CHIPS)
def test_there_are_candidates_for_every_dtype_that_a_chip_takes(chip: str) -> None:
    for fields in ({"dtype": "bf16", "layout": "nt"}, *OTHERS):
        for sides in ({"m": 1, "n": 1, "k": 1}, SQUARE):
            case = MatmulCase(**sides, **fields)
            if tiles.refuses(case, TARGETS[chip]) is None:
                assert tile_configs(case, MACHINES[chip])
                assert split_configs(case, MACHINES[chip])


def test_one_tile_more_than_multiprocessors_is_predicted_to_take_another_turn() -> None:
    machine = MACHINES["sm_90"]
    config = next(c for c in tile_configs(MatmulCase(**SQUARE, dtype="bf16"), machine) if (c["BLOCK_M"], c["BLOCK_N"]) == (128, 256))
    cases = [MatmulCase(m=128 * rows, n=256 * 11, k=65536, dtype="bf16") for rows in (12, 13)]
    whole, one_more = (tile_cost(case, config, machine) for case in cases)
    assert one_more == pytest.approx(2 * whole)


def test_splitting_k_is_predicted_to_pay_in_decoding_and_not_in_training() -> None:
    machine = MACHINES["sm_90"]
    decode = MatmulCase(m=1, n=1024, k=16384, dtype="bf16", layout="nt")
    assert cheapest(split_configs(decode, machine), decode, machine)["SPLIT"] > 1
    train = MatmulCase(m=4096, n=4096, k=4096, dtype="bf16", layout="nt")
    assert cheapest(split_configs(train, machine), train, machine)["SPLIT"] == 1
    assert "triton.matmul does it" in str(split_k.refuses(train, TARGETS["sm_90"]))


def test_rows_that_tma_cannot_copy_are_refused_with_their_size() -> None:
    case = MatmulCase(m=64, n=64, k=65, dtype="bf16")
    if refuses_descriptors(TARGETS["sm_90"]) is not None:
        pytest.skip("no tensor descriptors in this Triton")
    assert persistent.refuses(case, TARGETS["sm_90"]) == (
        "TMA needs rows of a multiple of 16 bytes, and those of A have 130; triton.matmul takes any"
    )
    assert persistent.refuses(case, TARGETS["sm_80"]) == "TMA needs compute capability 9.0"
