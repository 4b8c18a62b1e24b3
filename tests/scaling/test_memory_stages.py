"""Which layers, weights and microbatches lie on a stage: against papers, by hand, and by counting every weight once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chipassay.scaling.memory import stage_parameters
from chipassay.scaling.models import Experts, Latent, Transformer, load_model, preset_names
from chipassay.scaling.plan import Plan, Schedule
from chipassay.scaling.plans import Plans
from chipassay.scaling.stages import candidate_stages, in_flight
from chipassay.scaling.weights import dense_parameters, expert_parameters, stage_weights

from .toy_models import ROUTED

LLAMA = load_model("llama3-8b")

# Microbatches in flight and stages


@pytest.mark.parametrize(
    ("schedule", "interleave", "m", "first", "last"),
    [
        ("1f1b", 1, 64, 8, 1),
        ("1f1b", 1, 4, 4, 1),
        ("interleaved", 3, 64, 8 * (1 + 7 / 24), 17 / 3),
        ("gpipe", 1, 64, 64, 64),
        ("zero-bubble", 1, 64, 8, 8),
        ("dualpipe", 1, 64, 9, 9),
    ],
)
def test_stages_hold_as_many_microbatches_as_their_schedule_sends_ahead(
    schedule: Schedule, interleave: int, m: int, first: float, last: float
) -> None:
    plans = Plans.of([Plan(global_batch=m, pp=8, schedule=schedule, interleave=interleave)])
    assert in_flight(plans, 0)[0] == pytest.approx(first)
    assert in_flight(plans, np.array([7]))[0] == pytest.approx(last)


def test_llama_3_405b_has_one_layer_fewer_on_both_ends() -> None:
    """126 layers on 16 stages: 7, fourteen times 8, 7 (arXiv 2407.21783, section 3.3.2)."""
    stages = candidate_stages(load_model("llama3-405b"), Plans.of([Plan(global_batch=64, pp=16)]))
    assert stages.layers[:, 0].tolist() == [7, 8, 7]


def test_leading_dense_layers_lie_on_the_first_stage() -> None:
    stages = candidate_stages(ROUTED, Plans.of([Plan(global_batch=64, pp=4)]))
    assert stages.dense_layers[:, 0].tolist() == [1, 0, 0]
    assert stages.expert_layers[:, 0].tolist() == [1, 2, 2]


def test_dualpipe_holds_the_mirrored_stage_and_both_ends() -> None:
    """Weights twice (DeepSeek-V3, arXiv 2412.19437, table 2)."""
    plain, dual = (Plans.of([Plan(global_batch=64, pp=4, schedule=schedule)]) for schedule in ("1f1b", "dualpipe"))
    layers = LLAMA.layers // 4 * LLAMA.layer_parameters
    ends = 2 * LLAMA.vocab * LLAMA.hidden
    assert stage_parameters(LLAMA, dual)[0] == 2 * layers + ends + LLAMA.hidden
    assert stage_parameters(LLAMA, plain)[0] == layers + ends / 2 + LLAMA.hidden


# Weights


VARIANTS = {
    "latent": replace(ROUTED, head_dim=96, kv_heads=16, latent=Latent(kv_rank=64, q_rank=128, nope_dim=64, rope_dim=32, value_dim=64)),
    "further tokens": replace(ROUTED, mtp_depth=2),
    "every second": replace(ROUTED, layers=9, experts=Experts(count=8, active=2, ffn_hidden=512, first_dense=1, every=2)),
    "biases, four norms": replace(ROUTED, experts=None, biases=True, norms=4, rms_norm=False, qk_norm=True),
    "BERT's head": replace(ROUTED, experts=None, head_layers=2, causal=False, tied_embeddings=True),
}


@pytest.mark.parametrize("model", [*map(load_model, preset_names()), *VARIANTS.values()], ids=[*preset_names(), *VARIANTS])
def test_one_chip_holds_every_weight_once(model: Transformer) -> None:
    model = replace(model, vocab_multiple=1)
    assert stage_parameters(model, Plans.of([Plan(global_batch=1)]))[0] == model.parameters + model.mtp_parameters


def test_the_ranks_of_all_groups_together_hold_every_expert_once() -> None:
    assert ROUTED.experts is not None
    plans = Plans.of([Plan(global_batch=8, dp=8, ep=4), Plan(global_batch=8, dp=8, tp=2, ep=4, expert_tp=1)])
    routed = (ROUTED.layers - 1) * ROUTED.experts.count * 3 * ROUTED.hidden * ROUTED.experts.ffn_hidden
    assert (expert_parameters(ROUTED, plans) * 4).tolist() == [routed, routed]
    assert dense_parameters(ROUTED, plans)[0] == ROUTED.parameters - routed


def test_keys_and_values_are_repeated_where_ranks_outnumber_them() -> None:
    pair = Plans.of([Plan(global_batch=1, tp=4), Plan(global_batch=1, tp=8)])
    weights = stage_weights(ROUTED, pair, candidate_stages(ROUTED, pair)).dense[0]
    norms_and_router = ROUTED.layers * 2 * 1024 + 7 * 8 * 1024 + 1024
    key_value = ROUTED.layers * 2 * 4 * 64 * 1024
    split = ROUTED.parameters - expert_parameters(ROUTED, Plans.of([Plan(global_batch=1)]))[0] - norms_and_router - key_value
    assert weights.tolist() == [split / 4 + key_value / 4 + norms_and_router, split / 8 + key_value / 4 + norms_and_router]


def test_the_tied_head_is_a_copy_where_the_embedding_is_elsewhere() -> None:
    gpt = load_model("gpt3-1.3b")
    held = stage_weights(gpt, (plans := Plans.of([Plan(global_batch=8, pp=4)])), candidate_stages(gpt, plans)).dense[:, 0]
    layers = gpt.layers // 4 * gpt.layer_parameters
    assert held[2] == layers + gpt.vocab * gpt.hidden + gpt.norm_parameters
    assert held[1] == layers
