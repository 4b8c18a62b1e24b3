"""Time of fused attention by its shape: a launch, then tiles of queries over the keys that they see, or bytes, whichever is more.

Each program takes a tile of queries of one head and walks over its keys. Under a causal mask the tiles are of unequal length, and programs
are handed to multiprocessors as these fall free: the time is that of all the work, plus what the last ones still have to do, and at least
the longest tile as often as it does not fit. Where there are few tiles, kernels may split the keys and add up the parts at a price, or let
heads that share keys fill one tile.

Sources: tiles over keys: Dao et al., "FlashAttention", arXiv:2205.14135, and "FlashAttention-2", arXiv:2307.08691, section 3. Work handed
out as it comes, and its bounds: Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17(2), 1969. Split keys and
packed heads, one query for each sequence: Dao et al., "Flash-Decoding", 2023 (pytorch.org/blog/flash-decoding). Heads that share keys:
Ainslie et al., "GQA", arXiv:2305.13245. Arithmetic against bytes: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..evidence import Evidence
from .product import HeldOut

Array = NDArray[np.float64]

SUM_BYTES = 4.0
"""A part of split keys waits in fp32."""
CACHE_STEEPNESS = 2.0
"""How slowly the share that stays in the cache falls once the footprint is larger than the cache: assumed."""
FEW_WAVES = 2.0
"""Keys are split only where the tiles are fewer than so many times the multiprocessors: else splitting wins nothing."""
DECODE_ROWS = 16.0
"""Rows that a matrix unit takes at least: one query for each sequence fills them with heads that share keys, or with nothing."""
APPEND_THREADS = 512.0
"""Of the block that writes one token into a paged cache (vLLM, csrc/cache_kernels.cu): one for each element of K, up to so many."""
USUAL_ROWS = 128.0
CHUNK = 1 << 15
"""Shapes evaluated together: their arrays stay in a core's cache."""


class _Calls(NamedTuple):
    """Columns of shapes; ``causal`` 1 or 0, ``window`` 0 where there is none."""

    batch: Array
    heads: Array
    kv_heads: Array
    seq_q: Array
    seq_kv: Array
    dim: Array
    causal: Array
    window: Array


class _Tiles(NamedTuple):
    """What multiprocessors are handed: ``tiles`` for each of ``programs``, by the keys that one walks over."""

    programs: Array
    tiles: Array
    mean_keys: Array
    longest_keys: Array
    key_s: Array
    """Seconds of one key on one multiprocessor."""
    unequal: Array
    """1 under a causal mask, else 0."""
    sum_s: Array
    """Of adding up two parts, if keys are split: for each part, its bytes written and read again."""


@dataclass(frozen=True)
class AttentionModel:
    """Seconds of softmax(Q K^T) V by shape, forward; ``backward`` is the backward pass's time over that of the forward pass.

    FLOPs are 4 batch heads seq_q seq_kv head_dim, half of them if causal. ``rate_flops_per_s`` and ``bandwidth_bytes_per_s`` are of the
    whole chip.
    """

    rate_flops_per_s: float
    """What deep attention of head size 128 reaches."""
    bandwidth_bytes_per_s: float
    launch_s: float
    evidence: Evidence
    element_bytes: float = 2.0
    """Of Q, K and V."""
    output_bytes: float = 2.0
    multiprocessors: int = 1
    tile_rows: Mapping[str, int] = field(default_factory=dict)
    """Head size, as text -> queries that one program takes; of sizes in between the next larger one's, beyond the last one the last one's;
    empty: 128."""
    tile_columns: int = 128
    """Keys at a time: a tile walks over a multiple of this."""
    tile_start_s: float = 0.0
    """Each tile: fetching its queries and storing what it computed."""
    tile_start_keys: float = 0.0
    """The same, as keys: what scales with the tile."""
    packs: bool = False
    """Whether heads that share keys may fill a tile together."""
    most_splits: int = 1
    """Into how many parts keys may be split: 1, 2, 4, ... up to this."""
    split_s: float = 0.0
    """Adding up the parts of split keys, beside their bytes."""
    imbalance: float = 0.0
    """How much of the longest tile's time, if causal, multiprocessors wait at the end for the last ones: 0 where the longest go first;
    above 1 where several programs share a multiprocessor, so that a tile takes longer than its share."""
    sharpness: float = 16.0
    """p of the p-norm that joins arithmetic and bytes: large is their maximum, 1 their sum."""
    cache_bytes: float = 0.0
    """A footprint below this finds its operands, above it the memory; 0: no cache is modelled."""
    cache_speedup: float = 1.0
    """Bandwidth of that cache over that of the memory."""
    slowdown: float = 0.0
    """Share by which long calls slow down, because clocks fall under power, and how long that takes."""
    slowdown_after_s: float = 1.0
    append_passes: float = 0.0
    """What serving frameworks add to the same call, writing K and V into their cache: how often these pass the memory for it."""
    append_s_per_token: float = 0.0
    """The same, for each token whose K fills a block of threads, and the part of it that it fills."""
    head_dim_shares: Mapping[str, float] = field(default_factory=dict)
    """Head size, as text -> share of the rate; between two sizes on the line through them, above the largest as there, below the smallest
    in proportion to the size, because the exponentials are as many; empty: 1 for all."""
    causal_share: float = 1.0
    """Of the rate, under a causal mask."""
    backward: Mapping[str, float] = field(default_factory=dict)
    """Head size, as text -> time of the backward pass over that of the forward pass; between two sizes on the line through them, beyond
    as at the nearest; empty: unknown."""
    points: int = 0
    spread: float | None = None
    """Standard deviation of log(measured / model), held out where that could be."""
    held_out: HeldOut | None = None
    fitted_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """``batch``, ``heads``, ``seq_q``, ``seq_kv``, ``head_dim``, ``flops`` -> smallest and largest fitted; outside it is extrapolation."""

    def time_s(
        self,
        batch: ArrayLike,
        heads: ArrayLike,
        seq_q: ArrayLike,
        seq_kv: ArrayLike,
        head_dim: ArrayLike,
        kv_heads: ArrayLike | None = None,
        causal: ArrayLike = True,
        direction: str = "forward",
        window: ArrayLike | None = None,
        appends: bool = False,
    ) -> Array:
        """Seconds for each shape; arrays broadcast. ValueError for a size that is not above 0, and where
        ``direction`` is unknown, or is not known of this chip.

        ``kv_heads``: None is as many as ``heads``. ``causal``: the last query sees all keys. ``window``: keys that a query sees at most;
        None or 0: all. ``appends``: as a serving framework's call, which also writes K and V into its cache.

        >>> one = AttentionModel(1e14, 1e12, 1e-6, Evidence("assumed", "example"))
        >>> float(one.time_s(1, 8, 4096, 4096, 128, causal=False)).__round__(9)
        0.000688195
        """
        if direction not in ("forward", "backward"):
            raise ValueError(f"direction {direction!r} is neither forward nor backward")
        if direction == "backward" and not self.backward:
            raise ValueError("no backward pass was fitted")
        given = (batch, heads, heads if kv_heads is None else kv_heads, seq_q, seq_kv, head_dim, causal, 0 if window is None else window)
        shape = np.broadcast_shapes(*(np.shape(x) for x in given))
        calls = _Calls(*(np.broadcast_to(np.asarray(x, dtype=float), shape).ravel() for x in given))
        if not all(np.all(x > 0) for x in calls[:6]):
            raise ValueError(f"{', '.join(_Calls._fields[:6])} must be above 0: nothing is launched for attention of nothing")
        out = np.empty(calls.batch.shape)
        for begin in range(0, len(out), CHUNK):
            chunk = slice(begin, begin + CHUNK)
            part = _Calls(*(x[chunk] for x in calls))
            out[chunk] = self.joined_s(self._arithmetic_s(part), self._memory_s(part))
            if appends:
                out[chunk] += self._appending_s(part)
        if direction == "backward":
            out *= np.interp(calls.dim, *_by_size(self.backward))
        return out.reshape(shape)

    def extrapolates(self, batch: float, heads: float, seq_q: float, seq_kv: float, head_dim: float, causal: bool = True) -> bool:
        """Whether the shape, or its FLOPs, lie outside what was fitted."""
        flops = 4.0 * batch * heads * seq_q * seq_kv * head_dim * (0.5 if causal else 1.0)
        values = {"batch": batch, "heads": heads, "seq_q": seq_q, "seq_kv": seq_kv, "head_dim": head_dim, "flops": flops}
        return any(not low <= values[name] <= high for name, (low, high) in self.fitted_range.items() if name in values)

    def joined_s(self, arithmetic_s: Array, memory_s: Array) -> Array:
        """Seconds of a call from those of its arithmetic and of its bytes."""
        larger, smaller = np.maximum(arithmetic_s, memory_s), np.minimum(arithmetic_s, memory_s)
        time_s: Array = self.launch_s + larger * (1 + (smaller / larger) ** self.sharpness) ** (1 / self.sharpness)
        if self.slowdown:
            time_s = time_s * (1 + self.slowdown * time_s / (time_s + self.slowdown_after_s))
        return time_s

    def _arithmetic_s(self, calls: _Calls) -> Array:
        rate = self.rate_flops_per_s * self._share(calls.dim) * np.where(calls.causal > 0, self.causal_share, 1.0)
        best = self._tiled_s(calls, calls.batch * calls.heads, calls.seq_q, rate)
        if self.packs:
            np.minimum(best, self._tiled_s(calls, calls.batch * calls.kv_heads, calls.seq_q * calls.heads / calls.kv_heads, rate), out=best)
        alone = calls.seq_q == 1
        if alone.any():
            # Another kernel, whose keys are split as far as it takes: all multiprocessors have the same work.
            programs = calls.batch * calls.kv_heads
            filled = np.ceil(calls.heads / calls.kv_heads / DECODE_ROWS) * DECODE_ROWS
            work_s = 4 * programs * filled * _seen(calls) * calls.dim / rate
            best = np.where(alone, programs / self.multiprocessors * self.tile_start_s + work_s, best)
        return best

    def _tiled_s(self, calls: _Calls, programs: Array, queries: Array, rate: Array) -> Array:
        """Seconds of ``programs`` heads of ``queries`` rows each, which are the ``seq_q`` positions of one head or of several."""
        rows = self._rows(calls.dim)
        tiles = np.ceil(queries / rows)
        step = calls.seq_q / tiles
        # The last query sees all keys, and a tile all that its last query does: tiles end at equal steps, the first at the first one.
        last = np.ceil(calls.seq_kv / self.tile_columns) * self.tile_columns
        end = calls.seq_kv
        begin = np.clip(calls.seq_kv - calls.seq_q + step, 1.0, end)
        mean, longest = np.where(calls.causal > 0, (begin + end) / 2, last), last
        if calls.window.any():
            widest = np.where(calls.window > 0, calls.window + step, np.inf)
            mean = np.where(calls.causal > 0, _mean_below(begin, end, widest), np.minimum(mean, widest))
            longest = np.minimum(longest, widest)
        key_s = 4 * rows * calls.dim * (self.multiprocessors / rate)
        sum_s = 2 * SUM_BYTES / self.bandwidth_bytes_per_s * programs * queries * calls.dim
        work = _Tiles(programs, tiles, mean, longest, key_s, calls.causal, sum_s)
        best = self._scheduled_s(work)
        few = programs * tiles < FEW_WAVES * self.multiprocessors
        if self.most_splits > 1 and few.any():
            best[few] = np.minimum(best[few], self._split_s(_Tiles(*(x[few] for x in work))))
        return best

    def _split_s(self, work: _Tiles) -> Array:
        best = np.full_like(work.tiles, np.inf)
        parts = 2
        while parts <= self.most_splits:
            split = work._replace(
                programs=work.programs * parts,
                mean_keys=np.maximum(work.mean_keys / parts, np.minimum(work.mean_keys, self.tile_columns)),
                longest_keys=np.ceil(work.longest_keys / parts / self.tile_columns) * self.tile_columns,
            )
            best = np.minimum(best, self._scheduled_s(split) + self.split_s + parts * work.sum_s)
            parts *= 2
        return best

    def _scheduled_s(self, work: _Tiles) -> Array:
        """Seconds of all tiles on all multiprocessors."""
        longest_s = self.tile_start_s + work.key_s * (work.longest_keys + self.tile_start_keys)
        mean_s = self.tile_start_s + work.key_s * (work.mean_keys + self.tile_start_keys)
        # Tiles of equal length go in waves. Of unequal ones, one for each program is the longest.
        waves_s = longest_s * np.ceil(np.where(work.unequal > 0, work.programs, work.programs * work.tiles) / self.multiprocessors)
        work_s = work.programs * work.tiles / self.multiprocessors * mean_s + work.unequal * self.imbalance * longest_s
        return np.maximum(waves_s, work_s)

    def _memory_s(self, calls: _Calls) -> Array:
        moved = self._moved_bytes(calls)
        return moved * self._s_per_byte(moved)

    def _moved_bytes(self, calls: _Calls) -> Array:
        """Q, K and V are read once and the output is written; with one query, a window's keys alone."""
        keys = np.where(calls.seq_q == 1, _seen(calls), calls.seq_kv)
        queries = (self.element_bytes + self.output_bytes) * calls.heads * calls.seq_q
        return calls.batch * calls.dim * (queries + 2 * self.element_bytes * calls.kv_heads * keys)

    def _s_per_byte(self, moved: Array) -> Array:
        if not self.cache_bytes or self.cache_speedup <= 1:
            return np.full_like(moved, 1 / self.bandwidth_bytes_per_s)
        kept = 1 / (1 + (moved / self.cache_bytes) ** CACHE_STEEPNESS)
        result: Array = (1 - kept * (1 - 1 / self.cache_speedup)) / self.bandwidth_bytes_per_s
        return result

    def _appending_s(self, calls: _Calls) -> Array:
        elements = calls.kv_heads * calls.dim
        token_s = self.append_s_per_token * np.minimum(1.0, elements / APPEND_THREADS)
        passed_s = self.append_passes * 2 * self.element_bytes * elements * self._s_per_byte(self._moved_bytes(calls))
        return calls.batch * calls.seq_q * (token_s + passed_s)

    def _share(self, dim: Array) -> Array:
        if not self.head_dim_shares:
            return np.ones_like(dim)
        sizes, shares = _by_size(self.head_dim_shares)
        result: Array = np.interp(dim, sizes, shares) * np.minimum(1.0, dim / sizes[0])
        return result

    def _rows(self, dim: Array) -> Array:
        if not self.tile_rows:
            return np.full_like(dim, USUAL_ROWS)
        sizes, rows = _by_size(self.tile_rows)
        result: Array = rows[np.minimum(np.searchsorted(sizes, dim), len(sizes) - 1)]
        return result


def _by_size(values: Mapping[str, float]) -> tuple[Array, Array]:
    sizes = np.array([float(size) for size in values])
    order = np.argsort(sizes)
    return sizes[order], np.array([float(value) for value in values.values()])[order]


def _seen(calls: _Calls) -> Array:
    """Keys that the last query sees."""
    return np.where(calls.window > 0, np.minimum(calls.window, calls.seq_kv), calls.seq_kv)


def _mean_below(begin: Array, end: Array, widest: Array) -> Array:
    """Mean of lengths that lie evenly between ``begin`` and ``end``, those beyond ``widest`` cut to it."""
    cut = np.clip(widest, begin, end)
    mean = ((cut**2 - begin**2) / 2 + cut * (end - cut)) / np.maximum(end - begin, 1e-9)
    return np.minimum(widest, np.where(end > begin, mean, end))
