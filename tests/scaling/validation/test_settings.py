"""A row's words as model, chips, network, software and plans."""

from __future__ import annotations

import pytest

from chipassay.results.catalogue import load_chips
from chipassay.results.shipped import find_profile
from chipassay.scaling.models import preset_names
from chipassay.scaling.plan import ATTENTIONS, CONTEXT_PARALLELS, HOSTS, RECOMPUTES, SCHEDULES
from chipassay.scaling.validation import clusters, models, software
from chipassay.scaling.validation.clusters import fabric_name, group_of
from chipassay.scaling.validation.models import model_of, padded
from chipassay.scaling.validation.plans import batch_of, choices_of
from chipassay.scaling.validation.rows import read_runs
from chipassay.scaling.validation.software import software_of
from chipassay.scaling.validation.tables import Unusable, table

from .runs import run_of


@pytest.mark.parametrize(
    ("words", "chip_id"),
    [
        ("A100-80GB-SXM", "a100-sxm-80gb"),
        ("A100-40GB-SXM (DGX-A100)", "a100-sxm-40gb"),
        ("A100-80GB-SXM (350W or 400W cap)", "a100-sxm-80gb"),
        ("V100-32GB-SXM3 (DGX-2)", "v100-sxm3-32gb"),
        ("V100-16GB-SXM2 (DGX-1)", "v100-sxm2-16gb"),
        ("H200-141GB-SXM", "h200-sxm-141gb"),
        ("GB200 NVL72", "gb200"),
        ("T4-16GB (AWS g4dn.12xlarge)", "t4-pcie-16gb"),
        ("h100-sxm-80gb", "h100-sxm-80gb"),
    ],
)
def test_the_words_for_a_chip_find_its_profile(tmp_path, words, chip_id) -> None:
    assert clusters.profile_of(run_of(tmp_path, chip=words)).chip_id == chip_id


@pytest.mark.parametrize("words", ["Quantum 9000", "K80-12GB", "A800-80GB or H800-80GB (README says A800/H800)"])
def test_a_chip_that_is_unknown_or_one_of_two_is_refused_with_its_reason(tmp_path, words) -> None:
    with pytest.raises(Unusable, match=r"not known|not catalogued|does not say which"):
        clusters.profile_of(run_of(tmp_path, chip=words))


def test_a_part_with_slower_memory_is_the_chip_with_that_memory(tmp_path) -> None:
    part = clusters.profile_of(run_of(tmp_path, chip="H100-96GB-HBM2e-SXM 500W (Meta Grand Teton)"))
    whole = find_profile("h100-sxm-80gb")
    assert part.memory_bytes is not None
    assert part.memory_bytes.value == 96e9
    assert part.peak_bandwidth_bytes_per_s is not None
    assert part.peak_bandwidth_bytes_per_s.value == pytest.approx(2.4e12, rel=0.01)  # torchtitan's docs: 2.4 TB/s
    assert part.memory is not None
    assert whole.memory is not None
    assert part.memory.rate < whole.memory.rate


@pytest.mark.parametrize(
    ("text", "chips", "name"),
    [
        ("8x200Gb HDR IB (Selene, fat-tree)", 8, "hdr200x8"),
        ("4x200Gb HDR IB (800 Gb/s per node)", 8, "hdr200x4"),
        ("1600 Gb/s per node RoCE", 8, "roce200x8"),
        ("400Gb/s RDMA per GPU (RoCE)", 8, "roce400x8"),
        ("50 Gb/s Ethernet (AWS)", 4, "eth50x1"),
        ("8x400Gb/s assumed (not stated)", 8, "ndr400x8"),
        ("340 Gb/s EFA (AWS p4)", 8, "efa85x4"),
        ("2 Tb/s RoCE total not certain", 8, "roce250x8"),
        ("not stated (Meta cluster)", 8, None),
        ("", 8, None),
    ],
)
def test_a_description_of_a_link_is_read_as_a_fabric(text, chips, name) -> None:
    assert fabric_name(text, chips) == name


def test_two_tables_on_one_network_share_a_group(tmp_path) -> None:
    run = run_of(tmp_path)
    assert group_of(run, 64) is group_of(run, 64)


def test_the_tables_name_chips_presets_and_choices_that_exist() -> None:
    for _, line in table("chips.csv", clusters.COLUMNS):
        assert line.text("chip_id") in {"", *load_chips()}
        assert line.text("chip_id") or line.text("reason")
    for _, line in table("families.csv", models.COLUMNS):
        assert line.text("base") in {"", *preset_names()}
        assert line.text("source")
    for _, line in table("software.csv", software.COLUMNS):
        assert line.text("kind") in ("3d", "fsdp", "ddp")
        assert {line.text("flash"), line.text("unstated")} <= set(ATTENTIONS)
        assert line.text("schedule") in SCHEDULES
        assert line.text("cp") in CONTEXT_PARALLELS
        assert line.text("host") in HOSTS
        assert line.text("recompute") in {"", *RECOMPUTES}
        assert {line.text(name) for name in ("fused", "overlap_dp", "overlap_tp", "overlap_pp")} <= {"y", "n"}
        assert line.text("source")


def test_every_row_of_the_shipped_table_finds_its_software() -> None:
    for run in read_runs():
        assert software_of(run).source


@pytest.mark.parametrize(
    ("framework", "year", "said", "attention"),
    [
        ("Megatron-LM", "2021", "n", "unfused"),
        ("Megatron-LM", "2021", "", "unfused"),
        ("composer/llm-foundry PyTorch FSDP", "2023", "y", "flash1"),
        ("NeMo / Megatron-Core", "2024", "y (TE)", "flash"),
        ("", "2020", "", "unfused"),
    ],
)
def test_attention_follows_the_row_then_the_framework_and_its_year(tmp_path, framework, year, said, attention) -> None:
    assert software_of(run_of(tmp_path, framework=framework, year=year, flash_attention=said)).attention == attention


def test_gpt_has_biases_and_learned_positions_and_llama_has_a_gate(tmp_path) -> None:
    gpt, guessed = model_of(run_of(tmp_path))
    assert (gpt.layers, gpt.hidden, gpt.biases, gpt.learned_positions, gpt.gated) == (48, 6144, True, True, False)
    assert guessed == []
    assert gpt.parameters / 1e9 == pytest.approx(22, rel=0.02)  # the paper's own count
    llama, _ = model_of(run_of(tmp_path, model_family="Llama-2", ffn_hidden="16384"))
    assert (llama.gated, llama.rms_norm, llama.biases, llama.tied_embeddings) == (True, True, False, False)


def test_bert_sees_both_ways_and_predicts_only_masked_tokens(tmp_path) -> None:
    bert, _ = model_of(run_of(tmp_path, model_family="BERT-Large", layers="24", hidden="1024", heads="16", ffn_hidden="4096"))
    assert not bert.causal
    assert bert.predicted_share < 0.2


def test_sizes_that_a_row_leaves_out_are_those_of_the_known_model(tmp_path) -> None:
    run = run_of(
        tmp_path, model_family="Llama-3.1", params_b="70.6", layers="", hidden="", heads="", ffn_hidden="", vocab="", seq_len="8192"
    )
    model, guessed = model_of(run)
    assert (model.layers, model.hidden, model.kv_heads) == (80, 8192, 8)  # Llama 3 (arXiv 2407.21783), table 3
    assert guessed


def test_layers_that_a_row_leaves_out_follow_from_the_parameters(tmp_path) -> None:
    model, guessed = model_of(run_of(tmp_path, layers="", heads="48"))
    assert model.layers == 48  # 12 x 48 x 6144^2 = 21.7e9
    assert guessed == ["layers, from the parameters"]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"model_family": "ResNet-50"}, "not a transformer"),
        ({"model_family": "Who Knows 7B"}, "'Who Knows 7B' is not known"),
        ({"seq_len": "128 then 512"}, "more than one length"),
        ({"params_b": "", "layers": "", "hidden": ""}, "neither its sizes nor its parameters"),
    ],
)
def test_a_model_that_cannot_be_told_is_refused_with_its_reason(tmp_path, cells, reason) -> None:
    with pytest.raises(Unusable, match=reason):
        model_of(run_of(tmp_path, **cells))


def test_layers_are_rounded_up_where_virtual_stages_nearly_divide_them(tmp_path) -> None:
    run = run_of(tmp_path, model_family="Llama-3.1", layers="126", pp="16", vpp_interleave="4")
    model, words = padded(run, model_of(run)[0])
    assert model.layers == 128
    assert "128 layers for 126" in words


def test_a_row_that_says_everything_allows_one_plan(tmp_path) -> None:
    run = run_of(tmp_path, vpp_interleave="1")
    choices = choices_of(run, model_of(run)[0], 8, "fp16")
    assert choices.open_fields == ()
    (plan,) = choices.plans
    assert (plan.tp, plan.pp, plan.dp, plan.microbatch, plan.global_batch) == (8, 1, 1, 4, 4)
    assert (plan.recompute, plan.attention, plan.zero_stage, plan.overlap_dp) == ("full", "unfused", 0, False)


def test_fields_that_a_row_leaves_open_are_searched_over(tmp_path) -> None:
    run = run_of(tmp_path, tp="", pp="", dp="", microbatch="", recompute="", num_chips="64", global_batch_seqs="512", year="2024")
    choices = choices_of(run, model_of(run)[0], 64, "bf16")
    assert {"tp", "pp", "microbatch"} <= set(choices.open_fields)
    assert len(choices.plans) > 20
    assert all(plan.chips == 64 and plan.global_batch == 512 for plan in choices.plans)


def test_degrees_that_are_not_the_chips_are_refused(tmp_path) -> None:
    # As six rows of BigScience's experiments/gpt2.md: TP 4 x PP 8 on 16 GPUs.
    run = run_of(tmp_path, tp="4", pp="8", dp="1", num_chips="16")
    with pytest.raises(Unusable, match="tp 4 x pp 8 x cp 1 x dp 1 is not the 16 chips"):
        choices_of(run, model_of(run)[0], 16, "fp16")


def test_a_batch_given_for_each_length_is_that_of_the_row(tmp_path) -> None:
    run = run_of(tmp_path, global_batch_seqs="64K (seq128) / 32K (seq512)", seq_len="512")
    assert batch_of(run, model_of(run)[0]) == 32 * 1024


@pytest.mark.parametrize(
    ("cells", "how", "share"),
    [
        ({"recompute": "selective", "framework": "Megatron-LM"}, "selective", 1.0),
        ({"recompute": "selective", "framework": "torchtitan FSDP2", "notes": "compile; selective (op) AC"}, "operators", 1.0),
        ({"recompute": "selective", "framework": "torchtitan FSDP2", "notes": "selective layer (every other)"}, "full", 0.5),
        ({"recompute": "none (mostly)"}, "none", 1.0),
        ({"recompute": "full(uniform 1 layers)"}, "full", 1.0),
    ],
)
def test_selective_means_what_it_does_in_that_framework(tmp_path, cells, how, share) -> None:
    run = run_of(tmp_path, **cells)
    (plan,) = choices_of(run, model_of(run)[0], 8, "fp16").plans
    assert (plan.recompute, plan.recompute_share) == (how, share)
