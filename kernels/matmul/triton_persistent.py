"""Persistent matmul in Triton: one program a multiprocessor takes one tile after another, loading and storing through TMA.

Through tensor descriptors the copy engine fills shared memory while the tensor cores work; the stores of one tile overlap the loads of the
next, half of its columns at a time where shared memory is short; where the chip and Triton have it, warps specialise in loading and in
multiplying. A configuration says which: FLATTEN (the loops over tiles and over k become one pipeline), SPECIALIZE, SUBTILES (C is stored in
so many parts; 0: from registers, without shared memory), and HOST: the descriptors come with the launch; else each program makes its own,
which Triton's specialisation on Hopper needs. Run on an H200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES
from ..kernel import Call, Target, kernel
from ..triton_tools import bound_launcher, constants, jit, launch_options, named, refuses_descriptors
from ..tuning import tuned
from .case import MatmulCase
from .product import OUTPUT_BYTES
from .triton_common import Operands, add_product, fixed, installed_triton, key_of, scaled, tile_place, tiles_of, zeros
from .triton_common import refuses as refuses_case
from .triton_configs import persistent_configs
from .triton_cost import Machine, tile_cost

if TYPE_CHECKING:
    import triton.language as tl

TMA_BYTES = 16
"""Rows of what TMA copies start at multiples of this: CUDA driver API, cuTensorMapEncodeTiled, globalStrides."""


@jit
def persistent(  # type: ignore[no-untyped-def]
    a, b, c, scale_a, scale_b, M, N, K,
    PRECISION: tl.constexpr, SCALING: tl.constexpr, SUM: tl.constexpr, GROUP: tl.constexpr,
    A_TRANSPOSED: tl.constexpr, B_TRANSPOSED: tl.constexpr, IMPRECISE: tl.constexpr, PROGRAMS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    HOST: tl.constexpr, SUBTILES: tl.constexpr, FLATTEN: tl.constexpr, SPECIALIZE: tl.constexpr,
):  # fmt: skip
    """Every PROGRAMS-th tile of C. Rows and columns past the edge load as 0 and are not stored."""
    if not HOST:
        if A_TRANSPOSED:
            a = tl.make_tensor_descriptor(a, [K, M], [M, 1], [BLOCK_K, BLOCK_M])
        else:
            a = tl.make_tensor_descriptor(a, [M, K], [K, 1], [BLOCK_M, BLOCK_K])
        if B_TRANSPOSED:
            b = tl.make_tensor_descriptor(b, [N, K], [K, 1], [BLOCK_N, BLOCK_K])
        else:
            b = tl.make_tensor_descriptor(b, [K, N], [N, 1], [BLOCK_K, BLOCK_N])
        if SUBTILES > 0:
            c = tl.make_tensor_descriptor(c, [M, N], [N, 1], [BLOCK_M, BLOCK_N // SUBTILES])
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    steps = tl.cdiv(K, BLOCK_K)
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, PROGRAMS, flatten=FLATTEN, warp_specialize=SPECIALIZE):
        row, column = tile_place(tile, tiles_m, tiles_n, GROUP)
        m, n = row * BLOCK_M, column * BLOCK_N
        total = zeros(BLOCK_M, BLOCK_N, SUM)
        for step in range(steps):
            k = step * BLOCK_K
            x = a.load([k, m]).T if A_TRANSPOSED else a.load([m, k])
            y = b.load([n, k]).T if B_TRANSPOSED else b.load([k, n])
            total = add_product(total, x, y, PRECISION, IMPRECISE)
        if SCALING == "row_wise":
            rows, columns = (m + tl.arange(0, BLOCK_M)) % M, (n + tl.arange(0, BLOCK_N)) % N
            total = scaled(total, scale_a, scale_b, rows, columns, SCALING)
        else:
            total = scaled(total, scale_a, scale_b, 0, 0, SCALING)
        if SUBTILES == 2:  # half of the columns at a time needs half of the shared memory
            halves = tl.permute(tl.reshape(total, (BLOCK_M, 2, BLOCK_N // 2)), (0, 2, 1))
            left, right = tl.split(halves)
            c.store([m, n], left.to(c.dtype))
            c.store([m, n + BLOCK_N // 2], right.to(c.dtype))
        elif SUBTILES == 1:
            c.store([m, n], total.to(c.dtype))
        else:
            rows, columns = m + tl.arange(0, BLOCK_M), n + tl.arange(0, BLOCK_N)
            place = c + rows.to(tl.int64)[:, None] * N + columns[None, :]
            tl.store(place, total.to(c.dtype.element_ty), mask=(rows < M)[:, None] & (columns < N)[None, :])


def refuses(case: MatmulCase, target: Target) -> str | None:
    reason = refuses_case(case, target) or refuses_descriptors(target)
    if reason is not None:
        return reason
    if case.dtype == "fp32" and target.kind != "cpu":
        return "fp32 is not computed by tensor cores, which is what this kernel feeds; triton.matmul does it"
    a, b = (DTYPE_BYTES[dtype] for dtype in case.input_dtypes())
    if a != 2 and case.layout != "nt" and target.kind != "cpu":
        return f"tensor cores read {case.dtype} from shared memory only with k contiguous (layout nt); triton.matmul turns the tiles"
    rows = {"A": case.a_shape[1] * a, "B": case.b_shape[1] * b, "C": case.n * OUTPUT_BYTES[case.output_dtype]}
    ragged = {name: size for name, size in rows.items() if size % TMA_BYTES}
    if ragged:
        name, size = next(iter(ragged.items()))
        return f"TMA needs rows of a multiple of {TMA_BYTES} bytes, and those of {name} have {size}; triton.matmul takes any"
    return None


def described(a: Array, b: Array, c: Array, config: Mapping[str, int], *, A_TRANSPOSED: bool, B_TRANSPOSED: bool) -> tuple[Any, ...]:
    """Descriptors of the three matrices as they lie in memory."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    m, n, k = config["BLOCK_M"], config["BLOCK_N"], config["BLOCK_K"]
    return (
        TensorDescriptor.from_tensor(a, [k, m] if A_TRANSPOSED else [m, k]),
        TensorDescriptor.from_tensor(b, [n, k] if B_TRANSPOSED else [k, n]),
        TensorDescriptor.from_tensor(c, [m, n // config["SUBTILES"]]) if config["SUBTILES"] else c,
    )


def give_scratch_memory(beside: Array) -> None:
    """Let Triton take memory for the descriptors that programs make: from torch, on the device of this tensor."""
    import torch
    import triton

    def allocate(size: int, alignment: int, stream: int | None) -> Array:
        return torch.empty(size, dtype=torch.int8, device=beside.device)

    triton.set_allocator(allocate)


def launch_of(case: MatmulCase, operands: Operands, config: Mapping[str, int], machine: Machine, out: Array) -> Callable[[], Any]:
    """The launch with this configuration."""
    transposed = {"A_TRANSPOSED": case.layout[0] == "t", "B_TRANSPOSED": case.layout[1] == "t"}
    a = operands.a.T if transposed["A_TRANSPOSED"] else operands.a
    b = operands.b.T if transposed["B_TRANSPOSED"] else operands.b
    arrays = described(a, b, out, config, **transposed) if config["HOST"] else (a, b, out)
    if not config["HOST"]:
        give_scratch_memory(out)
    programs = min(machine.multiprocessors, tiles_of(case, config))
    arguments = (*arrays, *operands.scales, case.m, case.n, case.k)
    launched = persistent()[(programs,)]
    named_arguments = {**fixed(case), **transposed, "PROGRAMS": programs, **constants(config), **launch_options(config)}
    return lambda: launched(*arguments, **named_arguments)


@kernel("matmul", "triton", "triton.matmul.persistent", refuses)
def matmul(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    operands, machine = Operands.of(case, inputs), Machine.of(output)
    config = tuned(
        "triton.matmul.persistent",
        key_of(case),
        persistent_configs(case, machine, installed_triton()),
        lambda config: launch_of(case, operands, config, machine, output.new_empty(output.shape))(),
        lambda config: tile_cost(case, config, machine),
    )
    return named(bound_launcher(lambda out: launch_of(case, operands, config, machine, out), output), config)
