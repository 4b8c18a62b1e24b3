"""The cells of a profile: which there are, what stands in them, and how much of it is known from where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.results.catalogue import load_chips
from chipassay.results.coverage import DATASHEET, MEMORY_OPS, PATTERNS, cells, coverage
from chipassay.results.profile import Curve, Profile, Quantity
from chipassay.results.profile_figures import dtype_of_width, product_rate, reference_figures
from chipassay.results.published import profile_from_catalogue
from chipassay.results.reference_shapes import LARGE_PRODUCT, PRODUCTS, AttentionShape, ProductShape

from .profiles_by_hand import GIGA, MEASURED, TERA, chip


def cell(profile, name):
    (found,) = [one for one in cells(profile) if one.name == name]
    return found


def test_of_a_chip_that_nobody_knows_every_cell_is_unknown():
    unknown = Profile("chip-x", "X")
    assert all(one.value is None for one in cells(unknown))
    assert sum(coverage(unknown).values()) == 0.0


def test_an_accelerator_has_a_cell_for_each_memory_operation_and_each_collective_known_or_not():
    names = {one.name for one in cells(Profile("chip-x", "X"))}
    assert set(MEMORY_OPS) <= names
    assert {f"{pattern} 2" for pattern in PATTERNS} <= names
    assert "all_reduce 8" in names
    assert "send_recv 8" not in names  # a pair is two


def test_a_cpu_has_neither_links_nor_launches_nor_a_host_link():
    groups = {one.group for one in cells(Profile("cpu-x-2c", "X"))}
    assert groups == {"memory", "memory ops", "datasheet"}


def test_what_a_datasheet_says_does_not_count_as_known():
    bare = Profile("chip-x", "X", peak_flops_per_s={"bf16": Quantity(1e15, MEASURED)}, memory_bytes=Quantity(1e10, MEASURED))
    assert coverage(bare)["measured"] == 0.0
    assert cell(bare, "memory size").group == DATASHEET


def test_a_dtype_without_units_is_no_gap_and_one_with_units_is():
    names = {one.name for one in cells(chip())}
    assert "matmul fp32" in names
    assert cell(chip(), "matmul fp32").value is None
    assert "matmul fp8_e4m3" not in names


def test_shares_of_a_group_are_counted_cell_by_cell():
    # bf16 is measured, fp32 has a peak and no figure.
    assert coverage(chip(), "matmul") == {"measured": 0.5, "published": 0.0, "derived": 0.0, "assumed": 0.0}
    # Forward is published, of the backward pass nothing is known.
    assert coverage(chip(), "attention")["published"] == 0.5


def test_one_more_measured_cell_adds_one_share():
    before = chip()
    after = replace(before, launch_s={**before.launch_s, "graph": Quantity(1e-6, MEASURED)})
    count = sum(one.group != DATASHEET for one in cells(before))
    assert coverage(after)["measured"] - coverage(before)["measured"] == pytest.approx(1 / count)


@pytest.mark.parametrize("chip_id", sorted(load_chips()))
def test_cells_of_a_chip_have_names_of_their_own_and_shares_within_one(chip_id):
    profile = profile_from_catalogue(chip_id)
    keys = [(one.group, one.name) for one in (*cells(profile), *reference_figures(profile))]
    assert len(keys) == len(set(keys))
    assert 0 <= sum(coverage(profile).values()) <= 1 + 1e-12


def test_a_large_product_reaches_what_its_roofline_allows_and_tells_its_share_of_the_peak():
    found = cell(chip(), "matmul bf16")
    assert found.value == pytest.approx(400 * TERA, rel=1e-3)
    assert found.share == pytest.approx(0.8, rel=1e-3)
    low, high = found.interval
    # 1.96 standard deviations of 3 %.
    assert (low / found.value, high / found.value) == pytest.approx((0.9429, 1.0606), abs=1e-3)


def test_a_product_of_one_row_is_bound_by_the_bytes_of_its_weights_even_where_only_a_line_is_known():
    line = replace(chip(), products={})
    row = ProductShape("one row", 1, 8192, 8192)
    # 2 bytes for 2 FLOPs of each weight, at 2500 GB/s of the datasheet.
    assert product_rate(line, "bf16", row).value == pytest.approx(2500 * GIGA, rel=1e-3)
    assert product_rate(line, "bf16", LARGE_PRODUCT).value == pytest.approx(400 * TERA)


def test_a_forward_pass_may_be_named_with_or_without_its_direction():
    assert cell(chip(), "rms_norm forward").value == pytest.approx(1000 * GIGA)
    named = replace(
        chip(), memory_ops={"rms_norm forward": Curve(0.0, 7 * GIGA, MEASURED), "softmax forward": Curve(0.0, 8 * GIGA, MEASURED)}
    )
    assert cell(named, "rms_norm forward").value == pytest.approx(7 * GIGA)
    assert cell(named, "softmax").value == pytest.approx(8 * GIGA)


def test_of_two_transports_the_faster_one_stands_for_the_link_and_a_barrier_has_no_bandwidth():
    found = cell(chip(), "all_reduce 8")
    assert found.value == pytest.approx(150 * GIGA)
    assert "nccl" in found.note
    assert not any("barrier" in one.name for one in cells(chip()))
    assert cell(chip(), "all_gather 16 across nodes").value == pytest.approx(20 * GIGA)


def test_a_chip_without_bf16_units_is_shown_in_fp16():
    v100, a100 = profile_from_catalogue("v100-sxm2-32gb"), profile_from_catalogue("a100-sxm-80gb")
    assert dtype_of_width(v100, ("bf16", "fp16")) == "fp16"
    assert dtype_of_width(a100, ("bf16", "fp16")) == "bf16"


def test_layers_of_well_known_models_have_the_weights_that_their_papers_say():
    def weights(model):
        return sum(shape.n * shape.k for shape in PRODUCTS if shape.name.startswith(model) and "16 tokens" not in shape.name)

    # GPT-3: 12 width^2 a layer, cut in eight. Llama 3 8B and 70B: 218,103,808 and 855,638,016 a layer without the norms.
    assert weights("GPT-3 175B") * 8 == 12 * 12288**2
    assert weights("Llama 3 8B") == 218_103_808
    assert weights("Llama 3 70B") * 8 == 855_638_016


def test_causal_attention_counts_half_of_the_square():
    assert AttentionShape("", 1, 1, 1, 1024, 64).flops() == 4 * 1024 * 1024 * 64 / 2
    assert AttentionShape("", 1, 1, 1, 1024, 64).flops("backward") == 2.5 * 4 * 1024 * 1024 * 64 / 2
