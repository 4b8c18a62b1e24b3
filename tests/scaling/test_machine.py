"""A chip made ready: the dtype it trains in, what stands in for what was not measured, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipassay.results.errors import FileError
from chipassay.results.profile import Curve, Link, Profile, Quantity
from chipassay.results.shipped import find_profile
from chipassay.scaling.constants import FULL_CLOCK_W_PER_TFLOPS
from chipassay.scaling.errors import MissingCell
from chipassay.scaling.machine import STATIC_SHARE, prepare, sustained_share
from chipassay.scaling.stand_ins import (
    ASSUMED_ATTENTION_SHARE,
    ASSUMED_MATMUL_SHARE,
    ASSUMED_MEMORY_SHARE,
    ELEMENT_BYTES,
    TRAINING_DTYPES,
    training_dtype,
)
from chipassay.scaling.sustained import full_clock_power, load_sustained_rates

from .toys import MEASURED, toy_link, toy_profile


def without(profile: Profile, *fields: str) -> Profile:
    """The profile with fields of it unknown."""
    empty: dict[str, Any] = {
        name: None if name in ("memory", "power_w", "peak_bandwidth_bytes_per_s", "memory_bytes") else {} for name in fields
    }
    return replace(profile, **empty)


@pytest.mark.parametrize(
    ("chip_id", "dtype"),
    [
        ("v100-sxm2-32gb", "fp16"),
        ("p100-pcie-16gb", "fp32"),
        ("h100-sxm-80gb", "bf16"),
        ("t4-pcie-16gb", "fp16"),
        ("a100-sxm-80gb", "bf16"),
    ],
)
def test_the_training_dtype_is_the_best_that_the_chip_runs_itself(chip_id: str, dtype: str) -> None:
    assert training_dtype(find_profile(chip_id)) == dtype


def test_a_dtype_that_is_only_emulated_is_not_trained_in() -> None:
    profile = toy_profile(dtype="fp32")
    emulated = replace(profile, matmul={**profile.matmul, "bf16": Curve(1e-6, 2e13, MEASURED)})
    assert training_dtype(emulated) == "fp32"


def test_bf16_is_preferred_to_a_somewhat_faster_fp16_and_not_to_a_much_faster_one() -> None:
    chosen = []
    for rate in (0.9e14, 0.7e14):
        curves = {"fp16": Curve(0.0, 1e14, MEASURED), "bf16": Curve(0.0, rate, MEASURED)}
        chosen.append(training_dtype(replace(toy_profile(), matmul=curves)))
    assert chosen == ["bf16", "fp16"]


def test_fp8_is_only_trained_in_where_it_is_asked_for() -> None:
    profile = toy_profile()
    fast = replace(profile, matmul={**profile.matmul, "fp8_e4m3": Curve(0.0, 9e14, MEASURED)})
    assert prepare(fast).dtype == "bf16"
    assert prepare(fast, "fp8").dtype == "fp8"


def test_fp8_multiplies_in_fp8_and_all_else_is_in_bf16() -> None:
    profile = toy_profile(overhead_s=0.0, bandwidth=1e30)
    machine = prepare(replace(profile, matmul={**profile.matmul, "fp8_e4m3": Curve(0.0, 2e14, MEASURED)}), "fp8")
    assert float(machine.linear_products.time_s(1000, 1000, 1000)) == pytest.approx(2e9 / 2e14)
    assert float(machine.products.time_s(1000, 1000, 1000)) == pytest.approx(2e9 / 1e14)
    assert machine.element_bytes == 2


def test_every_training_dtype_has_a_size() -> None:
    assert set(ELEMENT_BYTES) == set(TRAINING_DTYPES)


@pytest.mark.parametrize("field", ["matmul", "attention", "memory"])
def test_what_stands_in_for_a_measurement_says_so(field: str) -> None:
    profile = without(toy_profile(), field)
    profile = replace(profile, peak_bandwidth_bytes_per_s=Quantity(2e12, MEASURED), peak_flops_per_s={"bf16": Quantity(2e14, MEASURED)})
    machine = prepare(profile)
    what = {"matmul": "bf16 products", "attention": "attention", "memory": "memory traffic"}[field]
    found = next(entry for entry in machine.inputs if entry.what == what)
    assert found.evidence.level == "assumed"
    assert "measured" in found.evidence.source  # ... was measured: says what is missing


def test_a_missing_matmul_is_a_stated_share_of_the_peak() -> None:
    profile = replace(without(toy_profile(), "matmul"), peak_flops_per_s={"bf16": Quantity(2e14, MEASURED)})
    assert prepare(profile).matmul.rate == pytest.approx(ASSUMED_MATMUL_SHARE * 2e14)


def test_a_missing_attention_is_a_stated_share_of_the_matmul() -> None:
    assert prepare(toy_profile(attention=False)).attention.rate == pytest.approx(ASSUMED_ATTENTION_SHARE * 1e14)


def test_a_missing_copy_is_a_stated_share_of_the_datasheets_bandwidth() -> None:
    profile = replace(without(toy_profile(), "memory"), peak_bandwidth_bytes_per_s=Quantity(2e12, MEASURED))
    assert prepare(profile).memory.rate == pytest.approx(ASSUMED_MEMORY_SHARE * 2e12)


def test_attention_known_in_another_dtype_keeps_its_share_of_the_matmul() -> None:
    """fp16 attention at half of fp16's matmul rate: bf16's at half of bf16's."""
    profile = toy_profile(dtype="fp16")
    both = replace(profile, matmul={**profile.matmul, "bf16": Curve(0.0, 8e13, MEASURED)})
    attention = prepare(both, "bf16").attention
    assert attention.rate == pytest.approx(4e13)
    assert attention.evidence.level == "derived"


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (toy_profile(memory_bytes=None), r"profile toy: its memory size is unknown.*add memory_bytes"),
        (without(toy_profile(), "memory"), r"profile toy: no memory bandwidth.*measure copy"),
        (without(toy_profile(), "matmul", "peak_flops_per_s"), r"profile toy: no matmul rate and no peak.*measure matmul"),
    ],
    ids=["memory size", "bandwidth", "products"],
)
def test_what_nothing_can_stand_in_for_is_refused_with_its_mend(profile: Profile, message: str) -> None:
    with pytest.raises(MissingCell, match=message):
        prepare(profile)


def test_a_dtype_of_which_nothing_is_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(MissingCell, match=r"nothing is known of fp16 matmul \(known: bf16\)"):
        prepare(toy_profile(), "fp16")


def test_a_dtype_that_is_no_training_dtype_is_refused_with_those_that_are() -> None:
    with pytest.raises(MissingCell, match=r"'int8'.*bf16, fp16, tf32, fp32, fp8"):
        prepare(toy_profile(), "int8")


def test_a_memory_size_given_by_the_caller_counts_and_is_labelled() -> None:
    machine = prepare(toy_profile(), memory_bytes=40e9)
    assert machine.memory_bytes == 40e9
    assert next(entry for entry in machine.inputs if entry.what == "memory size").evidence.level == "assumed"


# Power


def powered(watts: float | None) -> Profile:
    return replace(toy_profile(overhead_s=0.0, bandwidth=1e30), power_w=None if watts is None else Quantity(watts, MEASURED))


def test_a_board_with_power_to_spare_keeps_its_clocks() -> None:
    assert prepare(powered(None)).sustained == 1.0
    assert prepare(powered(1e6)).sustained == 1.0


def test_clocks_fall_with_the_cube_root_of_the_power() -> None:
    """Dynamic power is f C V^2 with V about proportional to f (Mudge 2001): an eighth of the power, half of the clock."""
    full_w = FULL_CLOCK_W_PER_TFLOPS.value * 100  # 100 TFLOP/s
    assert prepare(powered(full_w / 8)).sustained == pytest.approx(0.5, rel=1e-6)


def test_a_capped_board_pays_memory_and_leakage_first() -> None:
    """A board of 1,000 W capped to 600 W: a fifth of 1,000 W goes first, and 400 of 800 W are left, worth 500 W of an uncapped board; full
    clocks would take eight times that."""
    rate = 4000.0 / FULL_CLOCK_W_PER_TFLOPS.value * 1e12
    assert STATIC_SHARE == 0.2
    assert sustained_share(600.0, rate, 1000.0) == pytest.approx(0.5)
    assert sustained_share(500.0, rate) == pytest.approx(0.5)
    assert sustained_share(500.0, rate, 250.0) == pytest.approx(0.5)  # of more power than others: not capped


def test_less_power_never_leaves_higher_clocks() -> None:
    shares = [sustained_share(watts, 1e15, 700.0) for watts in (100.0, 150.0, 300.0, 500.0, 700.0)]
    assert shares == sorted(shares)
    assert shares[0] > 0


def test_attention_reaches_less_than_products_and_keeps_at_least_their_clocks() -> None:
    machine = prepare(powered(FULL_CLOCK_W_PER_TFLOPS.value * 100 / 8))
    whole, half = (machine.attention_share(share) for share in (1.0, 0.5))
    assert machine.sustained <= whole <= 1.0
    assert half == pytest.approx(whole / 2)


def test_a_chip_whose_long_run_was_published_keeps_what_was_published() -> None:
    """T4: 24 TFLOP/s in products one after the other, of 40 in short runs (sustained.csv)."""
    machine = prepare(find_profile("t4-pcie-16gb"), "fp16")
    rate = 2 * 8192**3 / float(machine.products.time_s(8192, 8192, 8192))
    assert machine.sustained * rate == pytest.approx(24e12, rel=1e-9)
    assert machine.full_clock.evidence.level == "published"
    assert machine.sustained < machine.attention_share(1.0) < 1.0  # attention reaches less, and so takes less of the power
    told = next(one for one in machine.inputs if one.what == "clocks in a long run")
    assert told.evidence is machine.full_clock.evidence


def test_other_dtypes_and_chips_keep_the_shared_constant() -> None:
    assert prepare(find_profile("t4-pcie-16gb"), "fp32").full_clock is FULL_CLOCK_W_PER_TFLOPS
    assert prepare(find_profile("a100-sxm-80gb")).full_clock is FULL_CLOCK_W_PER_TFLOPS


def test_a_rate_above_that_of_short_runs_is_no_gain() -> None:
    assert full_clock_power("t4-pcie-16gb", "fp16", 12e12).value == pytest.approx(70 / 12)


def test_a_sustained_rate_that_cannot_be_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "sustained.csv"
    file.write_text("chip_id,dtype,tflop_per_s,power_w,evidence,source\nt4-pcie-16gb,fp16,-1,70,published,somebody\n")
    with pytest.raises(FileError, match=r"sustained\.csv.*line 2.*tflop_per_s"):
        load_sustained_rates(file)


def test_no_shipped_chip_is_taken_to_lose_half_of_its_clocks() -> None:
    """Published training runs reach at least 0.7 of the rates of short runs."""
    for chip_id in ("a100-sxm-80gb", "h100-sxm-80gb", "b200-sxm-180gb", "v100-sxm2-32gb", "t4-pcie-16gb", "mi300x-192gb"):
        assert 0.5 < prepare(find_profile(chip_id)).sustained <= 1.0, chip_id


# Links and memory


def test_an_all_reduce_stands_in_for_a_pattern_that_was_not_measured() -> None:
    machine = prepare(toy_profile(links=(toy_link(8),)))
    link = machine.link("all_gather", 8)
    assert link is not None
    assert link.pattern == "all_reduce"


def test_a_measured_pattern_is_used_for_itself() -> None:
    gather = Link("all_gather", "nvlink", 8, 1e-5, 2e11, MEASURED)
    link = prepare(toy_profile(links=(toy_link(8), gather))).link("all_gather", 8)
    assert link is gather


@pytest.mark.parametrize("change", [{"transport": "gloo"}, {"placement": "across"}, {"busbw_bytes_per_s": 0.0}])
def test_links_that_join_no_chips_of_one_node_are_left_out(change: dict[str, object]) -> None:
    """Ranks of one CPU, groups over nodes, and groups whose bytes were lost in the noise."""
    machine = prepare(toy_profile(links=(replace(toy_link(), **change),)))  # type: ignore[arg-type]
    assert machine.link("all_reduce", 8) is None


def test_a_memory_bound_operation_has_its_own_curve_where_it_was_measured() -> None:
    profile = replace(toy_profile(overhead_s=0.0), memory_ops={"adam": Curve(0.0, 2e12, MEASURED)})
    machine = prepare(profile)
    assert (machine.memory_s(4e12, "adam"), machine.memory_s(4e12)) == (2.0, 4.0)


def test_the_host_link_is_the_slower_of_both_measured_directions() -> None:
    quantities = {"host_to_device pinned": 50e9, "device_to_host pinned": 40e9, "host_to_device pageable": 5e9}
    profile = replace(toy_profile(), host_link_bytes_per_s={name: Quantity(value, MEASURED) for name, value in quantities.items()})
    host_link = prepare(profile).host_link
    assert host_link is not None
    assert host_link.value == 40e9


def test_an_unmeasured_host_link_is_a_share_of_the_catalogued_pcie() -> None:
    """An A100 has PCIe 4.0 x16, 31.5 GB/s one way."""
    host_link = prepare(toy_profile(chip_id="a100-sxm-80gb")).host_link
    assert host_link is not None
    assert 0.8 * 31.5e9 < host_link.value < 31.5e9
    assert host_link.evidence.level == "derived"
    assert prepare(toy_profile()).host_link is None


@pytest.mark.parametrize("chip_id", ["v100-sxm2-32gb", "a100-sxm-80gb", "l40s-pcie-48gb", "toy"])
def test_chips_up_to_ampere_and_ada_and_unknown_ones_are_not_later(chip_id: str) -> None:
    assert not prepare(toy_profile(chip_id=chip_id)).later_than_ampere


@pytest.mark.parametrize("chip_id", ["h100-sxm-80gb", "b200-sxm-180gb"])
def test_chips_from_hopper_on_are_later_than_ampere(chip_id: str) -> None:
    assert prepare(toy_profile(chip_id=chip_id)).later_than_ampere


def test_two_machines_of_one_profile_are_two() -> None:
    """Costs are remembered by machine."""
    profile = toy_profile()
    assert prepare(profile) != prepare(profile)
