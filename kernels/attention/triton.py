"""Flash-style attention in Triton, forward and backward: online softmax over tiles of keys (Dao et al., arXiv 2205.14135).

Three forward kernels: ``triton.attention`` loads through pointers and runs everywhere, ``triton.attention.tma`` through tensor
descriptors, ``triton.attention.specialized`` leaves those loads to warps of their own (FlashAttention-3, arXiv 2407.08608, section 3.1).
The first two also compute the gradients (``triton_backward.py``). Run on an H200.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..arrays import Array, Arrays
from ..backends import interpreting
from ..case import DTYPE_BYTES
from ..kernel import Call, Target, kernel
from ..triton_tools import (
    bound_launcher,
    constants,
    dot_precision,
    launch_options,
    launcher,
    named,
    refuses_descriptors,
    refuses_target,
    refuses_tensor_dtype,
    target_of,
    triton_version,
    widened,
)
from ..tuning import tuned
from .case import AttentionCase
from .triton_configs import FORWARD, SPECIALIZED, TMA, Table, forward_configs, table_chip, width_class
from .triton_cost import forward_cost
from .triton_parts import cut, heads_together, lse_rows, padded

WIDEST_HEAD = 256
TMA_ALIGNMENT = 16
"""Bytes that a row of a matrix behind a descriptor must be a multiple of: CUDA driver API, cuTensorMapEncodeTiled, globalStrides."""


def fixed_arguments(case: AttentionCase, store_lse: bool) -> dict[str, Any]:
    """The constants of a forward kernel that no configuration changes."""
    width, rest = cut(case.head_dim)
    return {
        "HEAD_DIM": case.head_dim,
        "HEAD_DIM_V": case.dim_v,
        "DIM": width,
        "DIM_REST": rest,
        "DIM_V": padded(case.dim_v),
        "GROUP": case.heads // case.kv_heads,
        "CAUSAL": case.causal,
        "WINDOW": case.window is not None,
        "STORE_LSE": store_lse,
        "PRECISION": dot_precision(case.dtype),
    }


def sizes(case: AttentionCase, block_m: int) -> tuple[int | float, ...]:
    """The numbers that a forward kernel gets: SEQ_Q to scale."""
    return (
        case.seq_q,
        case.seq_kv,
        case.heads,
        case.batch * case.heads,
        -(-case.seq_q // block_m),
        heads_together(case, DTYPE_BYTES[case.dtype]),
        lse_rows(case),
        case.window or 0,
        case.scale * math.log2(math.e),
    )


def even(case: AttentionCase, block_n: int) -> bool:
    """Whether the keys end with a tile, so that loads need no mask: every tile begins at a multiple of its size, under a window too."""
    return case.seq_kv % block_n == 0


def grid(case: AttentionCase, config: Mapping[str, int]) -> tuple[int]:
    return (-(-case.seq_q // config["BLOCK_M"]) * case.batch * case.heads,)


def tuning_key(case: AttentionCase) -> dict[str, str | int | bool]:
    """What decides the fastest tiles."""
    names = ("dtype", "batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim", "causal")
    return {name: getattr(case, name) for name in names} | {"head_dim_v": case.dim_v, "window": case.window or 0}


def launch(case: AttentionCase, inputs: tuple[Array, ...], out: Array, lse: Array | None, config: Mapping[str, int]) -> None:
    """Run the pointer kernel once; ``lse`` (batch x heads x lse_rows, fp32) takes the log-sum-exp of each row, base 2."""
    from .triton_forward import tile

    fixed = fixed_arguments(case, lse is not None)
    tile()[grid(case, config)](
        *inputs, out, out if lse is None else lse, *sizes(case, config["BLOCK_M"]),
        **fixed, EVEN=even(case, config["BLOCK_N"]), **constants(config), **launch_options(config),
    )  # fmt: skip


def choose_forward(case: AttentionCase, inputs: tuple[Array, ...], out: Array) -> dict[str, int]:
    """The tiles of the pointer kernel for the case."""
    target = target_of(out)
    configs = forward_configs(FORWARD, target, case)

    def run(config: Mapping[str, int]) -> None:
        launch(case, inputs, out, None, config)

    return tuned("triton.attention", tuning_key(case), configs, run, lambda config: forward_cost(case, config, target))


def refuses(case: AttentionCase, target: Target) -> str | None:
    if max(case.head_dim, case.dim_v) > WIDEST_HEAD:
        return f"this kernel holds a whole head: head_dim up to {WIDEST_HEAD}, not {max(case.head_dim, case.dim_v)}"
    if case.backward and case.dtype == "fp32" and width_class(case.head_dim, case.dim_v) > 128 and target.kind != "cpu":
        return "its fp32 gradients of heads wider than 128 do not fit the registers; use tf32, a 16-bit dtype or torch's kernels"
    return refuses_target(target) or refuses_tensor_dtype(case.dtype, target)


@kernel("attention", "triton", "triton.attention", refuses)
def attention(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Any) -> Call:
    if case.direction == "backward":
        from .triton_backward import prepare_gradients

        return prepare_gradients(case, widened(inputs), output)
    inputs = widened(inputs)
    config = choose_forward(case, inputs, output.new_empty(output.shape))
    return named(launcher(lambda out: launch(case, inputs, out, None, config), output), config)


def refuses_tma(case: AttentionCase, target: Target) -> str | None:
    element = DTYPE_BYTES[case.dtype]
    if case.head_dim * element % TMA_ALIGNMENT or case.dim_v * element % TMA_ALIGNMENT:
        return f"TMA reads rows of multiples of {TMA_ALIGNMENT} bytes, not {case.head_dim} and {case.dim_v} elements of {case.dtype}"
    if DTYPE_BYTES[case.dtype] != 2 and target.kind != "cpu":
        return f"made for fp16 and bf16, not {case.dtype}; use triton.attention"
    reason = refuses(case, target) or refuses_descriptors(target)
    if reason is None and target.kind == "cuda" and table_chip(target) not in TMA:
        reason = "its tiles are those of compute capability 9.0 and 10.0; use triton.attention"
    return reason


def refuses_specialized(case: AttentionCase, target: Target) -> str | None:
    if case.backward:
        return "forward only; the gradients are those of triton.attention and triton.attention.tma"
    reason = refuses_tma(case, target)
    if reason is not None:
        return reason
    if triton_version() < (3, 6):
        return f"warps are specialised in this way from Triton 3.6 on, and {'.'.join(map(str, triton_version()))} is installed"
    if target.kind == "cuda" and width_class(case.head_dim, case.dim_v) not in SPECIALIZED.get(table_chip(target), {}):
        return f"no tiles for head_dim {case.head_dim} on this chip: warps are specialised on compute capability 9.0 and 10.0"
    return None


def _descriptors(case: AttentionCase, inputs: tuple[Array, ...], config: Mapping[str, int]) -> tuple[Any, ...]:
    """K, the rest of K (None where there is none) and V as matrices of one row for each position."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    _, k, v = inputs
    width, rest = cut(case.head_dim)
    keys, values = k.view(-1, case.head_dim), v.view(-1, case.dim_v)
    whole = TensorDescriptor.from_tensor(keys, [config["BLOCK_N"], width])
    right = TensorDescriptor.from_tensor(keys, [config["BLOCK_N"], rest]) if rest else None
    return whole, right, TensorDescriptor.from_tensor(values, [config["BLOCK_N"], padded(case.dim_v)])


def _bind(case: AttentionCase, inputs: tuple[Array, ...], out: Array, specialized: bool, config: Mapping[str, int]) -> Callable[[], Any]:
    """A launch with its descriptors made."""
    from .triton_forward import tile_tma

    arguments = (inputs[0], *_descriptors(case, inputs, config), out, out, *sizes(case, config["BLOCK_M"]))
    fixed = {**fixed_arguments(case, False), "EVEN": even(case, config["BLOCK_N"]), "WARP_SPECIALIZE": specialized}
    run = functools.partial(tile_tma()[grid(case, config)], *arguments, **fixed, **constants(config), **launch_options(config))
    if not specialized or interpreting():
        return run
    import torch
    import triton

    def scratch(size: int, alignment: int, stream: int | None) -> Array:
        return torch.empty(size, dtype=torch.int8, device=out.device)

    def run_with_scratch() -> None:  # the descriptor of the queries is made in the kernel; Triton keeps the allocator per thread
        triton.set_allocator(scratch)
        run()

    return run_with_scratch


def _prepare_tma(name: str, table: Table, specialized: bool) -> Callable[..., Call]:
    def prepare(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Any) -> Call:
        inputs = widened(inputs)
        if case.backward:
            from .triton_backward import prepare_gradients

            return prepare_gradients(case, inputs, output, tma=True)
        spare, target = output.new_empty(output.shape), target_of(output)
        configs = forward_configs(table if not interpreting() else FORWARD, target, case)

        def run(config: Mapping[str, int]) -> None:
            _bind(case, inputs, spare, specialized, config)()

        config = tuned(name, tuning_key(case), configs, run, lambda config: forward_cost(case, config, target))
        return named(bound_launcher(lambda out: _bind(case, inputs, out, specialized, config), output), config)

    return prepare


kernel("attention", "triton", "triton.attention.tma", refuses_tma)(_prepare_tma("triton.attention.tma", TMA, False))
kernel("attention", "triton", "triton.attention.specialized", refuses_specialized)(
    _prepare_tma("triton.attention.specialized", SPECIALIZED, True)
)
