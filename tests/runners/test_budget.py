"""Time shared out among cases."""

from __future__ import annotations

import pytest

from chipassay.kernels.kernel import kernels
from chipassay.runners.budget import CAP_AT_LEAST_S, CAP_AT_MOST_S, CAP_WITHOUT_BUDGET_S, COMPILED_KERNELS, TUNING_S, Budget, compiles


def test_without_a_budget_every_case_gets_the_same():
    assert {Budget(None, 0.0).cap_s(now, 10, 10) for now in (0.0, 1e6)} == {CAP_WITHOUT_BUDGET_S}


def test_what_is_left_is_shared_among_what_remains():
    budget = Budget(100.0, begin_s=1000.0)
    assert budget.cap_s(1000.0, 50, 50) == pytest.approx(0.8 * 100 / 50)
    # Tuning took a minute: everyone after has less, no one nothing.
    assert budget.cap_s(1060.0, 49, 49) == pytest.approx(0.8 * 40 / 49)
    assert budget.cap_s(1099.9, 49, 49) == CAP_AT_LEAST_S
    assert budget.cap_s(1000.0, 1, 1) == CAP_AT_MOST_S
    assert budget.cap_s(1101.0, 49, 49) is None


def test_what_cases_take_beside_measuring_is_learned():
    budget = Budget(100.0, 0.0)
    assert budget.cap_s(0.0, 50, 50, overhead_s=0.1) == pytest.approx(0.8 * 2.0)
    # Three quarters of each share went into inputs and checks: a quarter is left to measure in, so that the last case has its turn.
    assert budget.cap_s(0.0, 50, 50, overhead_s=1.5) == pytest.approx(0.5)
    assert budget.cap_s(0.0, 50, 50, overhead_s=9.0) == CAP_AT_LEAST_S


def test_time_for_sustaining_is_set_aside_before_sharing():
    assert Budget(100.0, 0.0, sustain_s=5.0).cap_s(0.0, remaining=20, remaining_first=10) == pytest.approx(0.8 * 50 / 20)


def test_a_kernel_that_may_be_tuned_is_waited_for_longer_the_first_time_only():
    budget = Budget(None, 0.0, sustain_s=30.0)
    plain = budget.timeout_s(5.0, False, first=False, now_s=0.0)
    assert budget.timeout_s(5.0, False, first=True, now_s=0.0) == plain + 30.0
    assert budget.timeout_s(5.0, True, first=True, now_s=0.0) == plain + 30.0 + TUNING_S
    assert budget.timeout_s(5.0, True, first=False, now_s=0.0) == plain


def test_a_kernel_being_tuned_when_the_budget_is_over_is_waited_for_no_longer_than_others():
    budget = Budget(500.0, 0.0)
    plain = budget.timeout_s(1.0, False, first=True, now_s=490.0)
    assert budget.timeout_s(1.0, True, first=True, now_s=490.0) == plain + 10.0
    assert budget.timeout_s(1.0, True, first=True, now_s=100.0) == plain + TUNING_S


@pytest.mark.parametrize(
    ("backend", "kernel", "found"), [("triton", "a", True), ("cupy", "a", True), ("torch", "torch.mm", False), ("numpy", "a", False)]
)
def test_kernels_that_are_compiled_when_they_are_prepared_are_known(backend, kernel, found):
    assert compiles({"backend": backend, "kernel": kernel}) == found


def test_every_kernel_said_to_be_compiled_exists():
    assert set(COMPILED_KERNELS) <= {kernel.name for kernel in kernels()}
    assert all(compiles({"backend": kernel.backend, "kernel": kernel.name}) for kernel in kernels() if kernel.name in COMPILED_KERNELS)
