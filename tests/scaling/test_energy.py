"""Energy: published runs and node powers as known answers, sums, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from chipassay.results.errors import InputError
from chipassay.results.evidence import Evidence
from chipassay.results.profile import Profile, Quantity
from chipassay.results.shipped import find_profile
from chipassay.scaling.energy import Site, energy_of
from chipassay.scaling.errors import MissingCell
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import Prediction, predict

MEASURED = Evidence("measured", "a toy")
BARE = Site(host_w_per_chip=0.0, pue=1.0)


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    return predict("llama3-8b", "16xh100-sxm-80gb", Plan(global_batch=128, dp=16, zero_stage=3, recompute="full"))


def stepped(prediction: Prediction, chips: int, **breakdown_s: float) -> Prediction:
    """The prediction with a breakdown of round numbers."""
    step_s = math.fsum(breakdown_s.values())
    tokens = prediction.tokens_per_s * prediction.step_time_s
    return replace(prediction, chips=chips, breakdown_s=breakdown_s, step_time_s=step_s, tokens_per_s=tokens / step_s)


def powered(rated_w: float | None = 700.0, **measured_w: float) -> Profile:
    power = {name.replace("_", " "): Quantity(value, MEASURED) for name, value in measured_w.items()}
    return Profile("toy", "Toy", sustained_power_w=power, power_w=None if rated_w is None else Quantity(rated_w, MEASURED))


def test_kinds_of_work_draw_what_was_measured_of_them(prediction: Prediction) -> None:
    step = stepped(prediction, 2, matmul=3.0, attention=2.0, memory_bound=1.0, data_parallel=1.0)
    found = energy_of(step, powered(matmul_bf16=600.0, attention_bf16=500.0, copy=400.0), BARE)
    assert found.by_kind_joules == {
        "matmul": 3600.0, "attention": 2000.0, "memory_bound": 800.0, "data_parallel": 700.0, "host": 0.0, "building": 0.0,
    }  # fmt: skip
    assert found.step_joules == 7100.0
    assert found.chip_w == pytest.approx(7100 / 2 / 7)


def test_the_training_of_gpt3_drew_what_patterson_counted(prediction: Prediction) -> None:
    # Patterson et al. 2021, arXiv:2104.10350, table 4: 10,000 V100, 14.8 days, 330 W each with its part of the system, PUE 1.10: 1,287 MWh.
    step = stepped(prediction, 10_000, matmul=14.8 * 86400)
    tokens = step.tokens_per_s * step.step_time_s
    found = energy_of(step, powered(300, matmul_bf16=330.0), Site(host_w_per_chip=0, pue=1.10), tokens=tokens)
    assert found.run_kwh == pytest.approx(1_287_000, rel=0.002)


def test_the_training_of_bloom_drew_what_its_authors_counted(prediction: Prediction) -> None:
    # Luccioni et al. 2022, arXiv:2211.02001: 1,082,990 chip-hours at 400 W: 433,196 kWh, 24.7 t of CO2 at 57 g per kWh.
    step = stepped(prediction, 384, matmul=1_082_990 / 384 * 3600)
    site = Site(host_w_per_chip=0, pue=1, kg_co2_per_kwh=0.057)
    found = energy_of(step, powered(400, matmul_bf16=400.0), site, tokens=step.tokens_per_s * step.step_time_s)
    assert found.run_kwh == pytest.approx(433_196, rel=1e-6)
    assert found.run_kg_co2 == pytest.approx(24_700, rel=0.002)


@pytest.mark.parametrize(
    ("chip", "watts"),
    [
        ("v100-sxm2-32gb", 330.0),  # Patterson et al. 2021, table 4: the system's average power per chip while GPT-3 was trained
        ("h100-sxm-80gb", 0.76 * 10_200 / 8),  # Newkirk et al. 2025, arXiv:2506.14551: intensive loads draw 76 % of a node's 10.2 kW
    ],
)
def test_without_measured_power_a_node_draws_what_was_published_of_it(prediction: Prediction, chip: str, watts: float) -> None:
    # HOST_SHARE lies between what these two say, so this holds the sum of two shares, not a prediction of an unseen node.
    step = stepped(prediction, 8, matmul=1.0)
    found = energy_of(step, find_profile(chip), Site(pue=1.0))
    assert found.step_joules / 8 == pytest.approx(watts, rel=0.15)
    assert found.low <= 8 * watts <= found.high * 1.005  # HOST_SHARES are rounded


def test_parts_sum_to_the_whole_and_the_range_holds_it(prediction: Prediction) -> None:
    found = energy_of(prediction, find_profile("h100-sxm-80gb"), tokens=1e12)
    assert math.fsum(found.by_kind_joules.values()) == pytest.approx(found.step_joules)
    assert found.low < found.step_joules < found.high
    assert found.run_kwh == pytest.approx(found.joules_per_token * 1e12 / 3.6e6)
    assert {"host", "building"} < set(found.by_kind_joules)
    assert any("arXiv:2503.05804" in one.evidence.source for one in found.inputs)


def test_what_was_given_leaves_no_range(prediction: Prediction) -> None:
    step = stepped(prediction, 2, matmul=1.0)
    found = energy_of(step, powered(matmul_bf16=600.0), Site(host_w_per_chip=100, pue=1.5))
    assert found.low == found.step_joules == found.high == pytest.approx(2 * 700 * 1.5)


def test_goodput_and_prices_follow_the_run(prediction: Prediction) -> None:
    profile = find_profile("h100-sxm-80gb")
    site = Site(usd_per_kwh=0.1, kg_co2_per_kwh=0.4)
    whole, most = (energy_of(prediction, profile, site, tokens=1e12, goodput=share) for share in (1.0, 0.9))
    assert whole.run_kwh is not None
    assert most.run_kwh == pytest.approx(whole.run_kwh / 0.9)
    assert whole.run_usd == pytest.approx(0.1 * whole.run_kwh)
    assert whole.run_kg_co2 == pytest.approx(0.4 * whole.run_kwh)
    assert "t of CO2" in whole.describe()
    bare = energy_of(prediction, profile, tokens=1e12)
    assert (bare.run_usd, bare.run_kg_co2) == (None, None)
    assert "CO2" not in bare.describe()


def test_a_profile_without_any_power_is_refused_by_name(prediction: Prediction) -> None:
    with pytest.raises(MissingCell, match="profile toy: no measured power stands for matmul"):
        energy_of(stepped(prediction, 1, matmul=1.0), powered(None))
    with pytest.raises(MissingCell, match="give host_w_per_chip"):
        energy_of(stepped(prediction, 1, matmul=1.0), powered(None, matmul_bf16=600.0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pue": 0.9}, "pue is 0.9; give a number of at least 1"),
        ({"host_w_per_chip": -1.0}, "host_w_per_chip is -1"),
        ({"usd_per_kwh": math.nan}, "usd_per_kwh is nan"),
        ({"kg_co2_per_kwh": -0.1}, "kg_co2_per_kwh is -0.1"),
    ],
)
def test_a_number_that_cannot_be_is_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Site(**wrong)


def test_a_run_needs_tokens_and_a_goodput(prediction: Prediction) -> None:
    profile = find_profile("h100-sxm-80gb")
    with pytest.raises(InputError, match="a run over -1 tokens"):
        energy_of(prediction, profile, tokens=-1)
    with pytest.raises(InputError, match=r"goodput is 1\.2"):
        energy_of(prediction, profile, goodput=1.2)
