"""The fit of the calibrated constants, on losses whose least value is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from chipassay.scaling import constants
from chipassay.scaling.plan import Plan
from chipassay.scaling.step import launch_s
from chipassay.scaling.validation import fit as module
from chipassay.scaling.validation.fit import calibrated, fit, set_to


def fitted(monkeypatch: pytest.MonkeyPatch, loss: Any, **start: float) -> dict[str, float]:
    monkeypatch.setattr(module, "loss", lambda cases, values: loss(values))
    return fit({}, start)


def test_the_fit_finds_the_least_of_a_sum_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(values: Mapping[str, float]) -> float:
        return abs(math.log(values["a"] / 7)) + abs(math.log(values["b"] / 0.01))

    found = fitted(monkeypatch, loss, a=2.0, b=0.02)
    assert (found["a"], found["b"]) == pytest.approx((7, 0.01), rel=0.04)


def test_the_fit_crosses_ground_on_which_a_constant_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's time per kernel, from where the host is faster than the chip in every run."""

    def loss(values: Mapping[str, float]) -> float:
        return abs(math.log(max(values["host"], 40.0) / 50.0))

    assert fitted(monkeypatch, loss, host=16.0)["host"] == pytest.approx(50, rel=0.04)


def test_a_constant_that_nothing_tells_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(monkeypatch, lambda values: 0.1, a=3.0) == {"a": 3.0}


def test_a_constant_is_fitted_on_its_own_sources_and_stays_where_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources that would have it at 3 and at 5."""

    def loss(cases: Mapping[str, Any], values: Mapping[str, float]) -> float:
        return sum(abs(math.log(values["a"] / best)) for best in cases.values())

    monkeypatch.setattr(module, "loss", loss)
    both: dict[str, Any] = {"one, table 1": 3.0, "two, table 1": 5.0}
    only_two = {"a": ("two",)}
    assert fit(both, {"a": 1.0}, only_two)["a"] == pytest.approx(5, rel=0.04)
    assert fit({"one, table 1": both["one, table 1"]}, {"a": 1.0}, only_two) == {"a": 1.0}


def test_a_share_stays_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(monkeypatch, lambda values: 1 / values["A_SHARE"], A_SHARE=0.9)["A_SHARE"] == module.LARGEST_SHARE


def test_a_model_with_other_constants_is_itself_again_afterwards() -> None:
    before, plan = launch_s(Plan(global_batch=1)), Plan(global_batch=1)
    with set_to({"HOST_S_PER_KERNEL": 1.0}):
        assert launch_s(plan) == 1.0
    assert launch_s(plan) == before == constants.HOST_S_PER_KERNEL.value


def test_only_constants_with_runs_behind_them_are_fitted() -> None:
    assert all(one.fitted_on for one in calibrated().values())
    assert "OVERLAP_COST" not in calibrated()
