"""Honesty: published training runs against predictions from published profiles and the model's few constants (scaling/constants.py)."""

from __future__ import annotations

import statistics

import pytest

from chipassay.scaling.predict import Prediction, predict

from .anchors import ANCHORS, model_of, plan_of

LARGEST_MEDIAN = {
    "Korthikanti et al. 2022 (arXiv 2205.05198) Table 5": 0.045,
    "Korthikanti et al. 2022 (arXiv 2205.05198) section 6.3": 0.06,
    "Megatron-LM SC21 (arXiv 2104.04473) Table 1 weak scaling": 0.03,
    "Megatron-LM README Sept 2020, data-parallel scaling table DGX-A100": 0.045,
    "Megatron-LM README Sept 2020, model-parallel scaling table DGX-2 (V100) vs DGX-A100": 0.04,
    "MosaicML llm-foundry MPT training benchmarks": 0.045,
    "SimuMax v1.2 B200 formal summary (real ms)": 0.12,
}
"""Median error of each source when this was written, and a little more: it may shrink, not grow."""


def predicted(anchor: dict[str, str]) -> Prediction:
    return predict(model_of(anchor), f"{anchor['chips']}x{anchor['chip_id']}", plan_of(anchor))


ERRORS = {anchor["id"]: predicted(anchor).step_time_s / float(anchor["step_time_s"]) - 1 for anchor in ANCHORS}


def source(anchor: dict[str, str]) -> str:
    return anchor["source"].split(": ")[0]


def by_source() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for anchor in ANCHORS:
        found.setdefault(source(anchor), []).append(ERRORS[anchor["id"]])
    return found


def test_the_median_error_over_all_anchors_is_at_most_five_percent() -> None:
    assert len(ANCHORS) >= 50
    assert statistics.median(abs(error) for error in ERRORS.values()) < 0.05


def test_the_mean_of_the_sources_medians_is_at_most_five_percent() -> None:
    assert statistics.mean(statistics.median(abs(error) for error in errors) for errors in by_source().values()) < 0.05


@pytest.mark.parametrize("name", sorted(by_source()))
def test_no_source_is_predicted_worse_than_it_was(name: str) -> None:
    assert statistics.median(abs(error) for error in by_source()[name]) <= LARGEST_MEDIAN[name]


def test_no_single_run_is_off_by_more_than_a_quarter() -> None:
    assert max(abs(error) for error in ERRORS.values()) < 0.25


def test_at_least_nine_in_ten_runs_lie_in_their_eighty_percent_interval() -> None:
    inside = [p.low_s <= float(anchor["step_time_s"]) <= p.high_s for anchor in ANCHORS for p in (predicted(anchor),)]
    assert sum(inside) / len(inside) >= 0.90


@pytest.mark.parametrize("anchor", ANCHORS, ids=lambda anchor: anchor["id"])
def test_a_run_that_was_made_is_predicted_to_fit(anchor: dict[str, str]) -> None:
    assert predicted(anchor).fits
