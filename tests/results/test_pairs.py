"""Every pair of ranks: planted faults are named, noise is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.pairs import PairMatrix, faults, pairs_of, polish, sentence
from chipassay.results.schema import Row

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=30, derandomize=True, deadline=None)


def table(ranks: int, seed: int, per_node: int | None = None, noise: float = 0.05) -> PairMatrix:
    """Healthy links of 100 GB/s inside a node and 12.5 GB/s across, with symmetric noise."""
    values = 1e11 * np.exp(np.random.default_rng(seed).normal(0, noise, (ranks, ranks)))
    values = np.triu(values, 1) + np.triu(values, 1).T
    np.fill_diagonal(values, np.nan)
    node = np.arange(ranks) // (per_node or ranks)
    across = node[:, None] != node[None, :]
    return PairMatrix(tuple(range(ranks)), np.where(across, values / 8, values), 2**26, across)


def named(matrix: PairMatrix) -> set[tuple[str, tuple[int, ...]]]:
    return {(fault.kind, fault.ranks) for fault in faults(matrix, "low")}


@given(seed=SEEDS, shape=st.sampled_from([(4, None), (8, None), (16, 8), (16, 4), (8, 2)]))
@FEW
def test_noise_alone_blames_nobody(seed: int, shape: tuple[int, int | None]) -> None:
    assert named(table(shape[0], seed, shape[1])) == set()


@given(seed=SEEDS, ranks=st.sampled_from([8, 12, 16]), pair=st.tuples(st.integers(0, 3), st.integers(4, 7)), factor=st.floats(2.0, 20.0))
@FEW
def test_one_bad_link_is_named_and_no_rank_of_it(seed: int, ranks: int, pair: tuple[int, int], factor: float) -> None:
    matrix = table(ranks, seed)
    matrix.values[pair] /= factor
    matrix.values[pair[::-1]] /= factor
    (fault,) = faults(matrix, "low")
    assert (fault.kind, fault.ranks) == ("link", pair)
    assert fault.slowdown == pytest.approx(factor, rel=0.25)


@given(seed=SEEDS, ranks=st.sampled_from([5, 8, 16]), bad=st.integers(0, 4), factor=st.floats(1.6, 10.0))
@FEW
def test_one_slow_rank_is_named_and_none_of_its_links(seed: int, ranks: int, bad: int, factor: float) -> None:
    matrix = table(ranks, seed)
    matrix.values[bad, :] /= factor
    matrix.values[:, bad] /= factor
    (fault,) = faults(matrix, "low")
    assert (fault.kind, fault.ranks) == ("rank", (bad,))
    assert fault.slowdown == pytest.approx(factor, rel=0.2)


@given(seed=SEEDS, bad=st.integers(0, 15), factor=st.floats(1.6, 10.0))
@FEW
def test_a_slow_nic_shows_across_nodes_only(seed: int, bad: int, factor: float) -> None:
    matrix = table(16, seed, per_node=4)
    far = matrix.across[bad]
    matrix.values[bad, far] /= factor
    matrix.values[far, bad] /= factor
    (fault,) = faults(matrix, "low")
    assert (fault.kind, fault.ranks, fault.across) == ("rank", (bad,), True)


@given(seed=SEEDS, bad=st.integers(0, 3), factor=st.floats(1.8, 10.0))
@FEW
def test_a_node_whose_ranks_are_all_slow_to_the_others_is_named_as_one(seed: int, bad: int, factor: float) -> None:
    matrix = table(16, seed, per_node=4)
    own = np.arange(16) // 4 == bad
    slow = own[:, None] ^ own[None, :]
    matrix.values[slow] /= factor
    assert named(matrix) == {("node", tuple(range(4 * bad, 4 * bad + 4)))}


def test_a_machine_that_is_unsteady_itself_blames_no_link_of_four_ranks() -> None:
    def rows(spread: float) -> list[Row]:
        ends = {"time_p05_s": 1e-3 / spread, "time_p95_s": 1e-3 * spread}
        return [pair_row(a, b, 8, time_median_s=2.5e-3 if (a, b) == (1, 2) else 1e-3, **ends) for a in range(4) for b in range(a + 1, 4)]

    steady, unsteady = (pairs_of(rows(spread))[0].latency_s for spread in (1.02, 2.0))
    assert [fault.ranks for fault in faults(steady, "high")] == [(1, 2)]
    assert faults(unsteady, "high") == []


def test_late_is_worse_for_times_and_slow_for_bandwidths() -> None:
    matrix = table(8, 1)
    matrix.values[2, 5] *= 3
    matrix.values[5, 2] *= 3
    assert faults(matrix, "low") == []
    assert [fault.ranks for fault in faults(matrix, "high")] == [(2, 5)]


def test_the_parts_of_ranks_are_found_exactly_where_there_is_no_noise() -> None:
    parts = np.array([0.0, 0.0, -0.7, 0.0, 0.2])
    logs = 3.0 + parts[:, None] + parts[None, :]
    np.fill_diagonal(logs, np.nan)
    effects, rest = polish(logs)
    assert effects == pytest.approx(parts, abs=1e-4)
    assert float(np.nanmax(np.abs(rest))) < 1e-3


def test_three_ranks_are_too_few_to_blame_one() -> None:
    matrix = table(3, 1)
    matrix.values[0, 1] = matrix.values[1, 0] = 1.0
    assert faults(matrix, "low") == []


def pair_row(a: int, b: int, size_bytes: int, **more: object) -> Row:
    given = {
        "op": "send_recv", "status": "ok", "backend": "nccl", "group_size": 2, "members": f"{a},{b}", "size_bytes": size_bytes,
        "time_median_s": 1e-5 + size_bytes / 1e10, "busbw_bytes_per_s": size_bytes / (1e-5 + size_bytes / 1e10), "node_count": 1,
    }  # fmt: skip
    return Row(**{**given, **more})


def test_rows_of_pairs_become_a_matrix_of_bandwidth_at_the_largest_and_of_time_at_the_smallest_size() -> None:
    rows = [pair_row(a, b, size) for size in (8, 2**26) for a in range(4) for b in range(a + 1, 4)]
    others = [
        pair_row(0, 1, 2**26, group_size=4, members="0-3"),
        pair_row(0, 1, 2**26, beside="matmul"),
        pair_row(0, 1, 2**26, members=None),
    ]
    (found,) = pairs_of([*rows, *others, pair_row(0, 2, 2**26, status="error")])
    assert found.busbw_bytes_per_s.ranks == (0, 1, 2, 3)
    assert (found.busbw_bytes_per_s.size_bytes, found.latency_s.size_bytes) == (2**26, 8)
    assert found.latency_s.values[1, 3] == found.latency_s.values[3, 1] == 1e-5 + 8 / 1e10
    assert np.isnan(np.diag(found.latency_s.values)).all()


def test_one_pair_alone_is_no_matrix() -> None:
    assert pairs_of([pair_row(0, 1, 8)]) == []


def test_a_fault_is_told_in_words() -> None:
    matrix = table(8, 3)
    matrix.values[1, 6] /= 4
    matrix.values[6, 1] /= 4
    (fault,) = faults(matrix, "low")
    assert sentence(fault).startswith("the link between ranks 1 and 6 is ")
