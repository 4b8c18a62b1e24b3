"""Traffic within a layer and between stages, by hand, and what is recomputed: 8 chips of one node at a bus bandwidth of 100 GB/s."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chipassay.scaling import constants
from chipassay.scaling.errors import MissingCell

from .toy_models import DENSE, GPT, MODELS
from .toys import (
    changed,
    link_s,
    only_products,
    parts_of,
    plain,
    step_of,
    toy_fabric,
    toy_group,
    with_profile,
)

RATE = 1e14
TOKENS = 2048
ACTIVATION = TOKENS * 1024 * 2.0
"""Bytes of one activation of the width of the model."""

# Traffic of tensor parallelism


def test_a_layer_all_reduces_its_activations_twice_each_way() -> None:
    """Shoeybi et al. 2019 (arXiv 1909.08053), section 3: two all-reduces of b s h forward and two backward in each layer."""
    parts = parts_of(GPT, plain(tp=8), toy_group(8))
    assert parts["tensor_parallel"] == pytest.approx(8 * GPT.layers * 4 * link_s("all_reduce", ACTIVATION), rel=1e-9)


def test_sequence_parallelism_moves_the_bytes_of_the_all_reduces_it_replaces() -> None:
    """Korthikanti et al. 2022 (arXiv 2205.05198), section 4.2.2: a ring all-reduce is a reduce-scatter and an all-gather."""
    reduce, split = (parts_of(GPT, plain(tp=8, sequence_parallel=how), toy_group(8)) for how in (False, True))
    assert split["tensor_parallel"] == pytest.approx(reduce["tensor_parallel"])
    assert split["memory_bound"] < reduce["memory_bound"]


def test_full_recomputation_repeats_the_forward_exchanges() -> None:
    kept, again = (parts_of(GPT, plain(tp=8, recompute=how), toy_group(8)) for how in ("none", "full"))
    assert again["tensor_parallel"] == pytest.approx(1.5 * kept["tensor_parallel"])


def test_cut_products_hide_a_share_of_the_exchanges() -> None:
    group = toy_group(8, rate=1e12)
    assert changed(GPT, plain(tp=8), plain(tp=8, overlap_tp=True), group) == {"tensor_parallel"}
    whole, cut = (parts_of(GPT, plain(tp=8, overlap_tp=how), group)["tensor_parallel"] for how in (False, True))
    share, cost = constants.TP_HIDDEN_SHARE.value, constants.OVERLAP_COST.value
    assert cut / whole == pytest.approx(1 - share + share * cost)


# Traffic of context parallelism


def test_keys_and_values_are_gathered_for_each_pass_and_their_gradients_scattered() -> None:
    """2 b s (kv width) elements, gathered forward and backward (Transformer Engine keeps its own part alone), scattered backward."""
    model = MODELS["grouped queries"]
    parts = parts_of(model, plain(cp=8, context_parallel="all-gather"), toy_group(8))
    size = TOKENS * 2 * 8 * 64 * 2.0
    assert parts["context_parallel"] == pytest.approx(8 * model.layers * 3 * link_s("all_gather", size), rel=1e-9)


def test_latent_attention_gathers_the_keys_and_values_that_it_expands() -> None:
    """16 heads of 64 + 32 columns of keys and 64 of values."""
    model = MODELS["latent"]
    parts = parts_of(model, plain(cp=8, context_parallel="all-gather"), toy_group(8))
    size = TOKENS * 16 * (96 + 64) * 2.0
    assert parts["context_parallel"] == pytest.approx(8 * model.layers * 3 * link_s("all_gather", size), rel=1e-9)


def test_a_ring_hides_behind_the_attention_that_it_feeds() -> None:
    """Liu et al. 2023 (arXiv 2310.01889): nothing is left once a block's scores take longer than the next block's way."""
    slow_core, fast_core = (toy_group(8, rate=rate) for rate in (1e10, 1e18))
    assert parts_of(DENSE, plain(cp=8), slow_core)["context_parallel"] == 0
    ring, gathered = (parts_of(DENSE, plain(cp=8, context_parallel=how), fast_core)["context_parallel"] for how in ("ring", "all-gather"))
    # forward keys and values pass once; backward they pass again, and their gradients with them
    assert ring == pytest.approx(gathered, rel=0.05)


def test_the_way_of_passing_keys_changes_nothing_else() -> None:
    assert changed(DENSE, plain(cp=8), plain(cp=8, context_parallel="all-gather"), toy_group(8)) == {"context_parallel"}


# Traffic of expert parallelism


def test_tensor_parallel_experts_gather_and_scatter_the_tokens_that_they_were_sent() -> None:
    """TP 4 of layers and experts, EP 2: of 2,048 tokens each meets two experts. The attention exchanges each token once, the experts each
    token twice (Megatron-LM's all-to-all dispatcher); an exchange is an all-gather and a reduce-scatter, forward and backward."""
    model = MODELS["experts"]
    parts = parts_of(model, plain(dp=2, tp=4, ep=2, sequence_parallel=True), toy_group(8))
    each = 2 * link_s("all_gather", ACTIVATION, 4)
    assert parts["tensor_parallel"] == pytest.approx(4 * model.layers * 2 * (each + 2 * each), rel=1e-9)


def test_tokens_go_to_their_experts_and_back_in_both_passes() -> None:
    """Each rank sends its tokens to two experts each: all-to-all there and back, forward and backward; 7/8 leave the chip."""
    model = MODELS["experts"]
    parts = parts_of(model, plain(dp=8, ep=8), toy_group(8))
    size = TOKENS * 2 * 1024 * 2.0
    assert parts["expert_parallel"] == pytest.approx(model.layers * 4 * size * 7 / 8 / 1e11, rel=1e-9)


def test_spreading_experts_leaves_the_products_of_balanced_ones_alone() -> None:
    """As many tokens meet experts on each rank; one rank holds an eighth of the experts, and reduces and updates as many less."""
    model = MODELS["experts"]
    group = only_products(8)
    assert changed(model, plain(dp=8), plain(dp=8, ep=8), group) == {"expert_parallel", "data_parallel"}


def test_dualpipe_hides_the_exchanges_of_paired_passes_behind_each_other() -> None:
    """DeepSeek-V3 (arXiv 2412.19437), section 3.2.1: of 16 microbatches on 4 stages all but 4 forward passes run beside a backward pass."""
    model = replace(MODELS["experts"], vocab=1)
    slow, cost = toy_group(8, rate=1e11), constants.OVERLAP_COST.value
    in_turn, paired = (plain(global_batch=32, dp=2, pp=4, ep=2, schedule=schedule) for schedule in ("1f1b", "dualpipe"))
    exposed, hidden = (parts_of(model, plan, slow)["expert_parallel"] for plan in (in_turn, paired))
    assert hidden / exposed == pytest.approx(4 / 16 + cost * 12 / 16, rel=1e-6)
    few = replace(paired, global_batch=16)
    assert parts_of(model, few, slow)["expert_parallel"] / exposed == pytest.approx((4 / 8 + cost * 4 / 8) / 2, rel=1e-6)


def test_exchanges_longer_than_the_compute_stay_exposed_beyond_it() -> None:
    model = replace(MODELS["experts"], vocab=1)
    fast = toy_group(8, rate=1e30, bandwidth=1e30, overhead_s=0.0)
    in_turn, paired = (plain(global_batch=32, dp=2, pp=4, ep=2, schedule=schedule) for schedule in ("1f1b", "dualpipe"))
    exposed, hidden = (parts_of(model, plan, fast)["expert_parallel"] for plan in (in_turn, paired))
    assert hidden == pytest.approx(exposed, rel=1e-6)


# Sends


def test_sends_that_are_split_over_the_tensor_group_cost_a_gather_in_the_node() -> None:
    """Narayanan et al. 2021, section 4.1: each of t ranks sends 1/t to the next node, which gathers there."""
    group = toy_group(16, fabric=toy_fabric(nics=1))
    plan = plain(tp=8, pp=2, dp=1)
    split, whole = (parts_of(DENSE, replace(plan, scatter_gather=how), group)["pipeline_send"] for how in (True, False))
    assert split < whole / 4


# Recomputation


def test_full_recomputation_repeats_the_forward_pass_of_the_layers_and_not_the_logits() -> None:
    parts = parts_of(DENSE, plain(recompute="full"), only_products())
    forward = 8 * DENSE.layers * 2 * TOKENS * DENSE.layer_matmul_parameters / RATE + parts["attention"] / 3.5
    assert parts["recompute"] == pytest.approx(forward, rel=1e-9)


def test_half_of_the_layers_recomputed_cost_half() -> None:
    whole, half = (parts_of(DENSE, plain(recompute="full", recompute_share=share), toy_group())["recompute"] for share in (1.0, 0.5))
    assert half == pytest.approx(whole / 2)


def test_selective_recomputation_is_free_where_the_kernel_does_it_anyway() -> None:
    flash, unfused = (
        parts_of(DENSE, plain(recompute="selective", attention=how), toy_group())["recompute"] for how in ("flash", "unfused")
    )
    assert flash == 0
    assert unfused > 0


@pytest.mark.parametrize("recompute", ["selective", "operators", "full"])
def test_recomputation_adds_its_own_part_and_no_other(recompute: Any) -> None:
    before, after = (plain(recompute=how, attention="unfused") for how in ("none", recompute))
    assert changed(GPT, before, after, toy_group()) == {"recompute"}


def test_chips_without_a_known_link_are_refused_by_name() -> None:
    with pytest.raises(MissingCell, match=r"profile toy: .*measure all_reduce"):
        step_of(GPT, plain(dp=8), with_profile(toy_group(8), links=()))


def test_keeping_every_second_product_recomputes_the_other_half_and_all_passes() -> None:
    parts = parts_of(DENSE, plain(recompute="operators"), only_products())
    forward = 8 * DENSE.layers * 2 * TOKENS * DENSE.layer_matmul_parameters / RATE
    assert parts["recompute"] == pytest.approx(forward / 2, rel=1e-9)


@pytest.mark.parametrize(("recompute", "products"), [("none", 1.0), ("operators", 1.5), ("full", 2.0)])
def test_exchanges_hide_behind_the_backward_products_and_those_recomputed(recompute: Any, products: float) -> None:
    """A link so slow that all products are full: what is hidden is as long as they are, forward and backward."""
    plan, group = plain(tp=8, overlap_tp=True, recompute=recompute), only_products(8, busbw=1e6)
    open_s, cut_s = (parts_of(DENSE, replace(plan, overlap_tp=how), group)["tensor_parallel"] for how in (False, True))
    forward = 8 * DENSE.layers * 2 * TOKENS * DENSE.layer_matmul_parameters / 8 / RATE
    hidden = (1 + products) * forward * (1 - constants.OVERLAP_COST.value)
    assert open_s - cut_s == pytest.approx(hidden, rel=1e-4)
