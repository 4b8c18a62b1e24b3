"""What a prediction costs: chips times price, the spread of quotes beside the median, and nothing where no price is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from chipassay.results.errors import InputError
from chipassay.results.evidence import Evidence
from chipassay.results.prices import Price, given_price
from chipassay.runners.cli import main
from chipassay.scaling.cluster import parse_cluster
from chipassay.scaling.cost import cost_of, describe_cost, run_cost
from chipassay.scaling.models import load_model
from chipassay.scaling.predict import Prediction
from chipassay.scaling.search import best_plan

QUOTED = Price("h100-sxm-80gb", "usd_per_chip_hour", 3.0, 2.0, 6.0, 4, "2025", "2026-10", Evidence("published", "four pages"))


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    return best_plan(load_model("llama3-8b"), parse_cluster("16xh100-sxm-80gb"), 512)


def test_a_million_tokens_cost_what_the_chips_take_for_them(prediction: Prediction) -> None:
    cost = cost_of(prediction, QUOTED)
    seconds = 1e6 / prediction.tokens_per_s
    assert cost.usd_per_hour == 48.0
    assert cost.usd_per_million_tokens == pytest.approx(16 * 3.0 * seconds / 3600)
    assert cost.usd_per_million_tokens_low == pytest.approx(cost.usd_per_million_tokens * 2 / 3)
    assert cost.usd_per_million_tokens_high == pytest.approx(cost.usd_per_million_tokens * 2)


def test_a_cost_never_stands_without_the_quotes_behind_it(prediction: Prediction) -> None:
    told = describe_cost(cost_of(prediction, QUOTED))
    assert "48 USD/h for 16 x h100-sxm-80gb" in told
    assert "median of 4 quotes, 2025 to 2026-10, from 2 to 6" in told
    assert "by quote" in told
    assert "by quote" not in describe_cost(cost_of(prediction, given_price("h100-sxm-80gb", 2.0)))


def test_a_run_takes_its_tokens_over_the_speed_and_costs_its_chip_hours(prediction: Prediction) -> None:
    run = run_cost(prediction, 1e12, QUOTED)
    assert run.days == pytest.approx(1e12 / prediction.tokens_per_s / 86400)
    assert run.usd == pytest.approx(run.days * 24 * 16 * 3.0)
    assert run.days_low == pytest.approx(run.days * prediction.low_s / prediction.step_time_s)
    assert run.usd_low == pytest.approx(run.days_low * 24 * 16 * 2.0)
    assert run.usd_high == pytest.approx(run.days_high * 24 * 16 * 6.0)
    assert run.usd == pytest.approx(1e6 * cost_of(prediction, QUOTED).usd_per_million_tokens)
    assert "without restarts" in run.describe()
    assert "median of 4 quotes" in run.describe()


def test_what_does_not_train_is_paid_too(prediction: Prediction) -> None:
    whole, most = run_cost(prediction, 1e12, QUOTED), run_cost(prediction, 1e12, QUOTED, goodput=0.8)
    assert most.days == pytest.approx(whole.days / 0.8)
    assert most.usd == pytest.approx(whole.usd / 0.8)
    assert "at a goodput of 80.0%" in most.describe()


def test_a_run_without_a_price_has_days_alone(prediction: Prediction) -> None:
    run = run_cost(prediction, 1e12)
    assert (run.usd, run.usd_low, run.price) == (None, None, None)
    assert "USD" not in run.describe()


@pytest.mark.parametrize("usd", [0.0, -2.0, math.inf, math.nan])
def test_a_price_that_is_none_is_refused_in_one_sentence(prediction: Prediction, usd: float) -> None:
    with pytest.raises(InputError, match=r"the price of h100-sxm-80gb is .* USD per chip and hour; give one above 0, such as 2\.50"):
        cost_of(prediction, given_price("h100-sxm-80gb", usd))
    with pytest.raises(InputError, match="give one above 0"):
        run_cost(prediction, 1e12, given_price("h100-sxm-80gb", usd))


def test_the_price_of_a_purchase_tokens_and_a_goodput_that_cannot_be_are_refused(prediction: Prediction) -> None:
    with pytest.raises(InputError, match="USD to buy one; give USD per chip and hour"):
        cost_of(prediction, replace(QUOTED, unit="purchase_usd_per_chip"))
    with pytest.raises(InputError, match="a run over 0 tokens is none"):
        run_cost(prediction, 0)
    with pytest.raises(InputError, match=r"goodput is 1\.5"):
        run_cost(prediction, 1e9, goodput=1.5)


def test_predict_prints_the_cost_and_takes_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "--model", "llama3-8b", "--cluster", "16xh100-sxm-80gb", "--tokens", "1e9"]
    assert main(command) == 0
    assert "quotes, 20" in capsys.readouterr().out
    assert main([*command, "--price", "h100-sxm-80gb=2.5", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)["cost"]
    assert (cost["usd_per_hour"], cost["price"]["quotes"], cost["price"]["evidence"]["level"]) == (40.0, 0, "assumed")


def test_equate_prints_both_costs(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["equate", "8xh100-sxm-80gb", "--in", "a100-sxm-80gb", "--model", "llama3-8b", "--price", "h100-sxm-80gb=2"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "h100-sxm-80gb: 2 USD per chip and hour (as given)" in out
    assert "the same tokens on a100-sxm-80gb cost" in out
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert found["reference_run"]["usd_per_hour"] == 16.0
    assert found["other_run"]["usd_per_hour"] > 16.0


@pytest.mark.parametrize("command", [["predict", "--cluster", "8xh100-sxm-80gb"], ["equate", "8xh100-sxm-80gb", "--in", "a100-sxm-80gb"]])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("h100=2", "unknown chip 'h100'; did you mean"),
        ("t4-pcie-16gb=2", "no t4-pcie-16gb takes part"),
        ("h100-sxm-80gb=-2", "must be above 0"),
        ("h100-sxm-80gb=cheap", "'cheap' is not a number"),
    ],
)
def test_a_wrong_price_ends_a_command_with_its_mend(command: list[str], given: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--model", "llama3-8b", "--price", given]) == 2
    assert words in capsys.readouterr().err
