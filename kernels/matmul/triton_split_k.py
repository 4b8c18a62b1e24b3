"""Matmul in Triton with k split among programs: for shapes whose C has too few tiles to occupy the chip, as in decoding.

Each part of k is summed into its own fp32 (int8: int32) workspace, and a second kernel adds the parts in their order. Atomic additions
into C would save the workspace, but their order, and with it the rounding, changes from run to run, C would have to be zeroed first, and
bf16 would be rounded once a part; here the result is the same in every run and rounded once. Run on an H200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..arrays import Array, Arrays
from ..backends import interpreting
from ..kernel import Call, Target, kernel
from ..triton_tools import bound_launcher, jit, launch_options, named
from ..tuning import tuned
from .case import MatmulCase
from .triton import launch_of
from .triton_common import Operands, fixed, key_of, wide_offsets
from .triton_common import refuses as refuses_case
from .triton_configs import split_configs
from .triton_cost import Machine, tile_cost

if TYPE_CHECKING:
    import triton.language as tl

BLOCK = 1024
"""Elements of C that a program of the second kernel adds: 16 bytes for each of its 128 threads, twice."""

SMALLEST_TILE = 64
ENOUGH_TILES = 2
"""With so many of the smallest tiles for each multiprocessor there is work for all without splitting."""


@jit
def add_parts(  # type: ignore[no-untyped-def]
    parts, c, scale_a, scale_b, N, elements,
    SPLIT: tl.constexpr, SCALING: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """c = the sum over SPLIT parts of ``elements`` each, in order, times the scales."""
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    place = program * BLOCK + tl.arange(0, BLOCK)
    inside = place < elements
    total = tl.load(parts + place, mask=inside, other=0)
    for part in tl.static_range(1, SPLIT):
        total += tl.load(parts + part * elements + place, mask=inside, other=0)
    if SCALING == "per_tensor":
        total = total * (tl.load(scale_a) * tl.load(scale_b))
    elif SCALING == "row_wise":
        total = total * tl.load(scale_a + place // N, mask=inside) * tl.load(scale_b + place % N, mask=inside)
    tl.store(c + place, total.to(c.dtype.element_ty), mask=inside)


def refuses(case: MatmulCase, target: Target) -> str | None:
    reason = refuses_case(case, target)
    if reason is not None:
        return reason
    tiles = -(-case.m // SMALLEST_TILE) * -(-case.n // SMALLEST_TILE)
    enough = ENOUGH_TILES * Machine.for_target(target).multiprocessors
    if target.kind != "cpu" and tiles >= enough:
        return f"C has {tiles} tiles, work for every multiprocessor: splitting k would only add to it; triton.matmul does it"
    return None


def split_launch_of(case: MatmulCase, operands: Operands, config: Mapping[str, int], out: Array, workspace: Array) -> Callable[[], Any]:
    """Both kernels with this configuration; without parts, the first alone."""
    parts = config["SPLIT"]
    if parts == 1:
        return launch_of(case, operands, config, out)
    held = workspace[: parts * out.numel()].view(parts, *out.shape)
    unscaled = Operands(operands.a, operands.b, (None, None))
    first = launch_of(case, unscaled, config, held, scaling="none")
    block = 8 * BLOCK if interpreting() else BLOCK  # the interpreter takes its time for each program
    second = add_parts()[(-(-out.numel() // block),)]
    arguments = (held, out, *operands.scales, case.n, out.numel())
    flags = {"SPLIT": parts, "SCALING": fixed(case)["SCALING"], "WIDE": wide_offsets(held), "BLOCK": block, **launch_options({})}

    def launch() -> None:
        first()
        second(*arguments, **flags)

    return launch


@kernel("matmul", "triton", "triton.matmul.split_k", refuses)
def split_k(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    operands, machine = Operands.of(case, inputs), Machine.of(output)
    candidates = split_configs(case, machine)
    dtype = torch.int32 if case.dtype == "int8" else torch.float32
    workspace = torch.empty(max(config["SPLIT"] for config in candidates) * output.numel(), dtype=dtype, device=output.device)
    config = tuned(
        "triton.matmul.split_k",
        key_of(case),
        candidates,
        lambda config: split_launch_of(case, operands, config, output.new_empty(output.shape), workspace)(),
        lambda config: tile_cost(case, config, machine),
    )
    workspace = workspace[: config["SPLIT"] * output.numel()].clone()  # the largest candidate's would stay for nothing
    return named(bound_launcher(lambda out: split_launch_of(case, operands, config, out, workspace), output), config)
