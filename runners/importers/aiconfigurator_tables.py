"""What the columns of aiconfigurator-core's tables mean, as columns of rows: one function for each kind of table.

Their meaning is told by what wrote them, ``collector/`` of ai-dynamo/aiconfigurator, and by what reads them,
``aic-core/rust/.../perf_database``: latencies are means in milliseconds, message sizes count elements, ``step`` is the history of a decode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

DTYPES = {"bfloat16": "bf16", "half": "fp16", "int8": "int8", "fp8": "fp8_e4m3"}

PRODUCT_DTYPES = {**DTYPES, "fp8_block": "fp8_e4m3", "sq": "int8", "nvfp4": "nvfp4", "int8_wo": "bf16", "int4_wo": "bf16"}
"""Quantisation of a linear layer -> the element type of its arithmetic: with narrow weights only (``wo``) that of the activations, bf16."""

NARROW_ACTIVATIONS = {("sglang", "int8_wo"): "int8"}
"""Where a name means something else: SGLang's collector quantised the activations to int8, too (``per_token_quant_int8`` before
``int8_scaled_mm``), and its rates on an H100 are above the peak of bf16."""

COLLECTIVES = {"all_reduce": "all_reduce", "all_gather": "all_gather", "reduce_scatter": "reduce_scatter", "alltoall": "all_to_all"}

ITEMSIZE = {"bf16": 2, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class Table:
    """One kind of table. ``whole``: its columns of counts, each with its least value; ``map``: a frame of them -> columns of rows."""

    op_names: tuple[str, ...]
    dtype_column: str
    whole: Mapping[str, int]
    map: Callable[[pandas.DataFrame], dict[str, Any]]
    library: str = "framework"
    """The column that names what ``version`` is the version of."""


def _product(f: pandas.DataFrame) -> dict[str, Any]:
    """A linear layer, Y (m x n) = X (m x k) W' with W n x k. In all but bf16 the quantisation of X is in the time, so it is a variant."""
    m, n, k, plain = f["m"], f["n"], f["k"], f["gemm_dtype"] == "bfloat16"
    dtype = f["gemm_dtype"].map(PRODUCT_DTYPES)
    for (framework, scheme), other in NARROW_ACTIVATIONS.items():
        dtype = dtype.mask((f["framework"].str.lower() == framework) & (f["gemm_dtype"] == scheme), other)
    return {
        "op": "matmul",
        "m": m,
        "n": n,
        "k": k,
        "layout": "nt",
        "dtype": dtype,
        "variant": ("gemm_dtype=" + f["gemm_dtype"]).mask(plain),
        "flops": 2.0 * m * n * k,
        "bytes": (2.0 * (m * k + k * n + m * n)).where(plain),
    }


def _attention(f: pandas.DataFrame) -> dict[str, Any]:
    """Prefill: causal over the sequence itself; ``window_size`` 0 is none. Older tables have no such column."""
    window = f["window_size"].mask(f["window_size"] == 0)
    seen = window.fillna(f["isl"]).clip(upper=f["isl"])
    pairs = (f["isl"] ** 2 / 2).where(window.isna(), seen * (seen + 1) / 2 + (f["isl"] - seen) * seen)
    plain = (f["attn_dtype"] == "bfloat16") & (f["kv_cache_dtype"] == "bfloat16")
    arrays = f["isl"] * (2.0 * f["num_heads"] + 2.0 * f["num_key_value_heads"])
    return {
        "op": "attention",
        "direction": "forward",
        "causal": True,
        "seq_q": f["isl"],
        "seq_kv": f["isl"],
        "window": window,
        **_heads(f),
        "flops": 4.0 * f["batch_size"] * f["num_heads"] * pairs * f["head_dim"],
        "bytes": (2.0 * f["batch_size"] * arrays * f["head_dim"]).where(plain),
    }


def _decode(f: pandas.DataFrame) -> dict[str, Any]:
    """Generation: one query for each sequence over ``step`` positions of history and itself."""
    seq_kv = f["isl"] + f["step"]
    window = f["window_size"].mask(f["window_size"] == 0)
    seen = window.fillna(seq_kv).clip(upper=seq_kv)
    kv_bytes = f["kv_cache_dtype"].map({"bfloat16": 2.0, "fp8": 1.0})
    queries, keys = 2.0 * 2.0 * f["num_heads"], 2.0 * kv_bytes * f["num_key_value_heads"] * seen
    return {
        "op": "decode",
        "direction": "forward",
        "causal": False,
        "seq_q": 1,
        "seq_kv": seq_kv,
        "window": window,
        **_heads(f),
        "flops": 4.0 * f["batch_size"] * f["num_heads"] * seen * f["head_dim"],
        "bytes": (f["batch_size"] * (queries + keys) * f["head_dim"]).where(f["attn_dtype"] == "bfloat16"),
    }


def _encoder(f: pandas.DataFrame) -> dict[str, Any]:
    """Attention of an encoder of images: every position sees all others, and every head has its own keys."""
    f = f.assign(num_key_value_heads=f["num_heads"], kv_cache_dtype=f["attn_dtype"])
    size = f["batch_size"] * f["num_heads"] * f["isl"] * f["head_dim"]
    return {
        "op": "attention",
        "direction": "forward",
        "causal": False,
        "seq_q": f["isl"],
        "seq_kv": f["isl"],
        **_heads(f),
        "flops": 4.0 * size * f["isl"],
        "bytes": (8.0 * size).where(f["attn_dtype"] == "bfloat16"),
    }


def _heads(f: pandas.DataFrame) -> dict[str, Any]:
    return {
        "batch": f["batch_size"],
        "heads": f["num_heads"],
        "kv_heads": f["num_key_value_heads"],
        "head_dim": f["head_dim"],
        "dtype": f["attn_dtype"].map(DTYPES),
        "variant": ("kv_cache=" + f["kv_cache_dtype"].map(DTYPES)).mask(f["kv_cache_dtype"] == f["attn_dtype"]),
    }


def _collective(f: pandas.DataFrame) -> dict[str, Any]:
    """nccl-tests for each size, out of place (its columns of time before the in-place ones), or oneCCL's benchmark."""
    return {
        "op": f["op_name"].map(COLLECTIVES),
        "dtype": f["nccl_dtype"].map(DTYPES),
        "backend": f["kernel_source"].str.lower(),
        "in_place": (f["kernel_source"] != "NCCL").map({False: False, True: None}),
        **_message(f, f["nccl_dtype"]),
    }


def _custom_all_reduce(f: pandas.DataFrame) -> dict[str, Any]:
    launch = f["kernel_source"].str.extract("_(graph|eager)$")[0].map({"graph": "graph", "eager": "stream"})
    return {"op": "all_reduce", "dtype": f["allreduce_dtype"].map(DTYPES), "launch": launch, **_message(f, f["allreduce_dtype"])}


def _message(f: pandas.DataFrame, dtype: pandas.Series[Any]) -> dict[str, Any]:
    size_bytes = f["message_size"] * dtype.map(DTYPES).map(ITEMSIZE)
    return {"elements": f["message_size"], "size_bytes": size_bytes, "group_size": f["num_gpus"], "chip_count": f["num_gpus"]}


_HEADS = {"batch_size": 1, "isl": 1, "num_heads": 1, "head_dim": 1}
_CACHED = {**_HEADS, "num_key_value_heads": 1, "beam_width": 1, "step": 0, "window_size": 0}

TABLES = (
    Table(("gemm",), "gemm_dtype", {"m": 1, "n": 1, "k": 1}, _product),
    Table(("context_attention",), "attn_dtype", _CACHED, _attention),
    Table(("generation_attention",), "attn_dtype", _CACHED, _decode),
    Table(("encoder_attention",), "attn_dtype", _HEADS, _encoder),
    Table(tuple(COLLECTIVES), "nccl_dtype", {"num_gpus": 1, "message_size": 1}, _collective, library="kernel_source"),
    Table(("all_reduce",), "allreduce_dtype", {"num_gpus": 1, "message_size": 1}, _custom_all_reduce),
)
