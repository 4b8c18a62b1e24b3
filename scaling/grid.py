"""Every plan worth trying for a model on so many chips, as columns: the axes, their product, and of it what is legal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .legal import legal
from .models import Transformer
from .plan import RECOMPUTES, Plan, Recompute
from .plans import Array, Plans
from .rules import divisors, tensor_degrees

MICROBATCHES = (1, 2, 3, 4, 6, 8, 16)
INTERLEAVES = (1, 2, 3, 4, 5, 6, 8, 10, 12)
SMALL_NODE = 8
"""In nodes of fewer chips a TP group may cross nodes up to this degree; in larger ones it stays inside."""
MOST_TENSOR = 32
"""Largest TP degree worth trying: the part of a product left to each chip grows too small, even within one large node."""
CONTEXT_TOKENS = 2048
"""Sequences are cut over chips where this many tokens or more stay on each (assumed; Llama 3, arXiv 2407.21783, table 4, left 8,192)."""
WIDE_CONTEXT_TOKENS = 512
"""The same of the wide grid."""
WIDE_NODES = 2
"""Nodes over which a TP group of the wide grid may lie."""


def tensor_axis(model: Transformer, chips_per_node: int, nodes: int = 1) -> tuple[int, ...]:
    """TP degrees worth trying of those that cut the model evenly: within a node (or so many), powers of two and what divides it; up to
    SMALL_NODE in smaller nodes."""
    most = min(nodes * max(chips_per_node, SMALL_NODE), MOST_TENSOR)
    small = chips_per_node < SMALL_NODE
    return tuple(tp for tp in tensor_degrees(model) if tp <= most and (small or tp & (tp - 1) == 0 or chips_per_node % tp == 0))


def pipeline_axis(model: Transformer, uneven: bool = False) -> tuple[int, ...]:
    """PP degrees worth trying: divisors of the layers, and powers of two (an uneven cut). ``uneven``: for each number of layers in the
    fullest stage also the fewest stages that need no more."""
    found = {*divisors(model.layers), *_powers_of_two(model.layers)}
    return tuple(sorted(found | ({-(-model.layers // most) for most in range(1, model.layers + 1)} if uneven else set())))


def context_axis(model: Transformer, tokens: int = CONTEXT_TOKENS) -> tuple[int, ...]:
    """CP degrees worth trying: powers of two that leave each chip so many tokens."""
    return _powers_of_two(max(1, model.seq_len // tokens))


def recompute_axis(attention: str) -> tuple[Recompute, ...]:
    """Kinds of recomputation worth trying: a fused attention core recomputes by itself, so ``selective`` adds nothing to it."""
    return tuple(kind for kind in RECOMPUTES if kind != "selective" or attention == "unfused")


def fitted_batch(global_batch: int, dp: Array, tolerance: float) -> Array:
    """The multiple of each ``dp`` nearest to a batch; 0 where it is further off than ``tolerance`` (a share of the batch).

    >>> fitted_batch(512, np.array([8, 24]), 0.05).tolist(), fitted_batch(512, np.array([8, 24]), 0.0).tolist()
    ([512, 504], [512, 0])
    """
    fitted = np.rint(global_batch / dp).astype(np.int64) * dp
    return np.where(np.abs(fitted - global_batch) <= tolerance * global_batch, fitted, 0)


def grid(
    model: Transformer,
    chips: int,
    chips_per_node: int,
    global_batch: int,
    settings: Plan | None = None,
    *,
    batch_tolerance: float = 0.0,
    full: bool = False,
    wide: bool = False,
    recomputes: Sequence[Recompute] | None = None,
) -> Plans:
    """The legal plans worth trying, fields outside the columns as in ``settings``; whether they fit in memory is not looked at.

    ``batch_tolerance`` lets the batch move by that share, so that numbers of chips that are no power of two divide it. ``full`` tries
    every divisor and every combination, those that cannot pay included. ``wide`` cuts sequences down to WIDE_CONTEXT_TOKENS, layers over
    WIDE_NODES and into every number of stages worth having, and shards gradients and weights beside a pipeline too. ``recomputes``:
    instead of the kinds that are worth trying. May be empty.

    >>> from chipassay.scaling.models import load_model
    >>> len(grid(load_model("llama3-8b"), 8, 8, 64)) > 100
    True
    """
    shared = settings or Plan(global_batch=global_batch)
    rows = _layouts(model, chips, chips_per_node, full, wide)
    rows["global_batch"] = fitted_batch(global_batch, rows["dp"], batch_tolerance)
    rows = _where(rows, rows["global_batch"] > 0)

    replica = rows["global_batch"] // rows["dp"]
    rows = _times(rows, microbatch=_all_divisors(replica) if full else MICROBATCHES)
    rows = _where(rows, rows["global_batch"] % (rows["dp"] * rows["microbatch"]) == 0)
    if shared.schedule in ("1f1b", "interleaved"):
        rows = _times(rows, interleave=_interleaves(model.layers, rows["pp"]) if full or wide else INTERLEAVES)
        most = -(-model.layers // rows["pp"])  # an uneven cut too: parts of one length, the first and last of the model shorter
        rows = _where(rows, (rows["interleave"] == 1) | ((rows["pp"] > 1) & (most % rows["interleave"] == 0)))
    if model.experts is not None:
        rows = _times(rows, ep=divisors(model.experts.count), expert_tp=(0, *tensor_degrees(model)) if full else (0, 1))
        rows = _where(rows, (rows["dp"] * rows["cp"] % rows["ep"] == 0) & (rows["expert_tp"] < rows["tp"]))
    rows = _sharded(rows, chips_per_node, shared, full, wide)
    kinds = recomputes or (RECOMPUTES if full else recompute_axis(shared.attention))
    rows = _times(rows, recompute=[RECOMPUTES.index(kind) for kind in kinds])
    splits = (rows["tp"] > 1) & (model.seq_len % (rows["tp"] * rows["cp"]) == 0)
    if full:
        rows = _times({**rows, "splits": splits}, sequence_parallel=(0, 1))
        rows = _where(rows, rows.pop("splits") | (rows["sequence_parallel"] == 0))
    else:
        rows["sequence_parallel"] = splits.astype(np.int64)  # the same traffic, less memory, and norms not repeated: never worse

    plans = Plans.grid(shared, **rows)
    return plans.take(legal(plans, model, chips))


def nearest_batch(model: Transformer, chips: int, chips_per_node: int, global_batch: int) -> int:
    """The batch nearest to one that some layout of the chips divides into whole sequences per replica."""
    replicas = np.unique(_layouts(model, chips, chips_per_node, full=False)["dp"])
    batches = np.maximum(1, np.rint(global_batch / replicas)).astype(np.int64) * replicas
    return int(batches[np.argmin(np.abs(batches - global_batch))])


Rows = dict[str, Array]


def _times(rows: Rows, **axes: Sequence[int]) -> Rows:
    """The product of rows with further axes: each row with every value, in the order of the rows."""
    for name, values in axes.items():
        count = len(next(iter(rows.values())))
        rows = {known: np.repeat(column, len(values)) for known, column in rows.items()}
        rows[name] = np.tile(np.asarray(values, np.int64), count)
    return rows


def _where(rows: Rows, kept: Array) -> Rows:
    return {name: column[kept] for name, column in rows.items()}


def _layouts(model: Transformer, chips: int, chips_per_node: int, full: bool, wide: bool = False) -> Rows:
    """tp, pp, cp and dp whose product is the number of chips."""
    tensor = tensor_degrees(model) if full else tensor_axis(model, chips_per_node, WIDE_NODES if wide else 1)
    pipeline = range(1, model.layers + 1) if full else pipeline_axis(model, uneven=wide)
    context = divisors(model.seq_len) if full else context_axis(model, WIDE_CONTEXT_TOKENS if wide else CONTEXT_TOKENS)
    rows = _times({"tp": np.asarray(tensor, np.int64)}, pp=pipeline, cp=context)
    model_parallel = rows["tp"] * rows["pp"] * rows["cp"]
    rows["dp"] = chips // model_parallel
    return _where(rows, chips % model_parallel == 0)


def _sharded(rows: Rows, chips_per_node: int, shared: Plan, full: bool, wide: bool) -> Rows:
    """Stages of ZeRO, over all replicas or over those of one node (hybrid sharding).

    Where there is a replica, stage 1 moves what stage 0 moves and needs less memory. Hybrid sharding saves what stage 3 moves between
    nodes for every microbatch. Weights that are offloaded need stage 3, even on one chip.
    """
    rows = _times(rows, zero_stage=(0, 1, 2, 3), hybrid=(0, 1))
    replicas, zero, hybrid = rows["dp"] * rows["cp"], rows["zero_stage"], rows.pop("hybrid")
    in_node = np.maximum(1, chips_per_node // rows["tp"])
    rows["shard"] = np.where(hybrid == 1, in_node, replicas)
    kept = (hybrid == 0) | ((zero >= (1 if full else 3)) & (in_node > 1) & (in_node < replicas) & (replicas % in_node == 0))
    if not (full or wide):
        kept &= (zero < 2) | (rows["pp"] == 1)
    if not full:
        kept &= zero == 3 if shared.offload == "all" else (zero == 0) == (replicas == 1)
    return _where(rows, kept)


def _powers_of_two(most: int) -> tuple[int, ...]:
    return tuple(2**i for i in range(most.bit_length()))


def _interleaves(layers: int, pp: Array) -> tuple[int, ...]:
    """Numbers of parts into which the fullest stage of one of these pipelines can be cut."""
    return _all_divisors(-(-layers // pp))


def _all_divisors(numbers: Array) -> tuple[int, ...]:
    return tuple(sorted({divisor for number in np.unique(numbers) for divisor in divisors(int(number))}))
