"""The constants: few, with a meaning and a source each, and within what their meaning allows. Their values are tuned elsewhere."""

from __future__ import annotations

import math

import pytest

from chipassay.results.evidence import LEVELS
from chipassay.scaling import constants
from chipassay.scaling.constants import ATTENTION_KERNELS, CALIBRATED, Constant
from chipassay.scaling.plan import ATTENTIONS

ALL = {name: value for name, value in vars(constants).items() if isinstance(value, Constant)}


@pytest.mark.parametrize("constant", ALL.values(), ids=ALL)
def test_each_constant_has_a_value_a_meaning_and_a_source(constant: Constant) -> None:
    assert math.isfinite(constant.value)
    assert constant.value > 0
    assert len(constant.meaning.split()) > 3
    assert constant.evidence.level in LEVELS
    assert constant.evidence.source


def test_no_two_constants_share_a_name() -> None:
    assert len({constant.name for constant in ALL.values()}) == len(ALL)


def test_the_calibrated_ones_are_a_handful_and_all_that_were_fitted() -> None:
    assert len(CALIBRATED) <= 10
    assert {constant.name for constant in ALL.values() if constant.fitted_on} <= {constant.name for constant in CALIBRATED}


@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("_SHARE")])
def test_a_share_is_none_or_all_at_most(name: str) -> None:
    assert 0 < ALL[name].value <= 1


def test_overlap_never_costs_more_than_it_hides() -> None:
    assert constants.OVERLAP_COST.value < 1


def test_every_kind_of_fused_attention_has_its_kernel() -> None:
    assert set(ATTENTION_KERNELS) == set(ATTENTIONS) - {"unfused"}


def test_an_older_kernel_is_never_the_faster_one_and_gains_least_from_later_chips() -> None:
    flash, second, first = (ATTENTION_KERNELS[name] for name in ("flash", "flash2", "flash1"))
    assert 1.0 == flash.share >= second.share >= first.share > 0
    assert 1.0 == flash.later_share >= second.later_share >= first.later_share > 0
    assert all(kernel.later_share <= kernel.share for kernel in ATTENTION_KERNELS.values())
    assert all(kernel.evidence.source for kernel in ATTENTION_KERNELS.values())
