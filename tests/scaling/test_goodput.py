"""Goodput: published runs and papers as known answers, a simulation beside the closed form, limits, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.errors import FileError, InputError
from chipassay.scaling.failures import load_failure_rates
from chipassay.scaling.goodput import DAY_S, Operation, best_interval_s, checkpoint_bytes, goodput, wall_shares
from chipassay.scaling.models import load_model
from chipassay.scaling.plan import Plan

HOUR_S = 3600.0
LLAMA3_BYTES = 14 * 405e9


@pytest.mark.parametrize(("hours", "minutes"), [(24, 117), (6, 57), (0.25, 9.1)])
def test_the_best_interval_is_that_of_dalys_paper(hours: float, minutes: float) -> None:
    # Daly 2006, figures 3 to 5: checkpoints of 5 min, failures every 24 h, 6 h and 15 min.
    assert best_interval_s(hours * HOUR_S, 300) / 60 == pytest.approx(minutes, rel=0.01)


def test_the_best_interval_is_youngs_for_short_pauses() -> None:
    assert best_interval_s(1e6, 1.0) == pytest.approx(math.sqrt(2 * 1e6), rel=1e-3)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.floats(60, 1e7), st.floats(1e-6, 5), st.floats(0.5, 2))
def test_no_other_interval_wastes_less(m: float, pause_share: float, factor: float) -> None:
    pause_s = m * pause_share
    best_s = best_interval_s(m, pause_s)
    best, other = (wall_shares(m, interval_s, pause_s, 0, 100)["training"] for interval_s in (best_s, factor * best_s))
    assert other <= best * (1 + 1e-9)


def simulated(m: float, interval_s: float, pause_s: float, write_s: float, restart_s: float, failures: int) -> float:
    """Training kept over wall time, failure by failure."""
    random = np.random.default_rng(7)
    wall_s = kept_s = 0.0
    restarting = False
    for up_s in random.exponential(m, failures):
        wall_s += up_s
        if restarting and up_s < restart_s:
            continue  # struck while it restarted
        trained_s = up_s - (restart_s if restarting else 0.0)
        kept_s += interval_s * max(0, math.floor((trained_s - write_s) / (interval_s + pause_s)))
        restarting = True
    return kept_s / wall_s


@pytest.mark.parametrize(
    ("interval_s", "pause_s", "write_s", "restart_s"),
    [(600, 60, 0, 300), (600, 5, 240, 300), (3600, 6, 30, 900), (300, 100, 900, 0)],
)
def test_a_simulation_of_failures_gives_the_same_share(interval_s: float, pause_s: float, write_s: float, restart_s: float) -> None:
    found = simulated(2 * HOUR_S, interval_s, pause_s, write_s, restart_s, 100_000)
    assert wall_shares(2 * HOUR_S, interval_s, pause_s, write_s, restart_s)["training"] == pytest.approx(found, rel=0.01)


def test_without_background_writes_it_is_dalys_expectation() -> None:
    m, interval_s, pause_s, restart_s = 5e4, 3e3, 200.0, 500.0
    wall_s = m * math.exp(restart_s / m) * math.expm1((interval_s + pause_s) / m)
    assert wall_shares(m, interval_s, pause_s, 0, restart_s)["training"] == pytest.approx(interval_s / wall_s)


def test_llama3s_interruptions_leave_the_ninety_percent_that_meta_reports() -> None:
    # arXiv:2407.21783, section 3.3.4: 466 interruptions in 54 days on 16,384 chips, 47 of them planned; over 90 % effective training time.
    found = goodput(16384, LLAMA3_BYTES, Operation(planned_per_day=47 / 54))
    assert found.failures_per_day * 54 == pytest.approx(419)
    assert found.mean_between_failures_s == pytest.approx(54 * DAY_S / 419)
    assert 0.90 < found.share < 0.94
    shorter = goodput(16384, LLAMA3_BYTES, Operation(planned_per_day=47 / 54, pause_s=0.59))
    assert found.share < shorter.share < 0.94


def test_llama3_cannot_have_written_checkpoints_only_once_an_hour() -> None:
    # An hour between checkpoints loses half an hour every three hours, a sixth, even where nothing else costs time.
    assert goodput(16384, LLAMA3_BYTES, Operation(interval_s=3600, pause_s=0, restart_s=0)).share < 0.86


@pytest.mark.parametrize(("chips", "hours"), [(16384, 1.8), (131072, 0.23)])
def test_the_failure_rate_of_metas_cluster_gives_its_published_times_to_failure(chips: int, hours: float) -> None:
    # Kokolis et al. 2025 (arXiv:2410.21680), from their rate of 6.50 failures per thousand node-days.
    rate = next(rate for rate in load_failure_rates() if rate.id == "rsc-1")
    found = goodput(chips, 1e12, Operation(failures_per_chip_hour=rate.per_chip_hour))
    assert found.mean_between_failures_s / HOUR_S == pytest.approx(hours, rel=0.03)


def test_published_rates_agree_within_a_factor_of_seven() -> None:
    rates = [rate.per_chip_hour for rate in load_failure_rates()]
    assert max(rates) / min(rates) < 7
    found = goodput(1024, 1e12)
    assert found.low < found.share < found.high


def test_without_failures_only_checkpoints_cost_time() -> None:
    asked = goodput(1024, 1e12, Operation(failures_per_chip_hour=0, interval_s=994, pause_s=6))
    assert asked.shares == pytest.approx({"training": 0.994, "checkpoints": 0.006, "lost work": 0, "restarts": 0, "maintenance": 0})
    assert goodput(1024, 1e12, Operation(failures_per_chip_hour=0)).share == 1.0


def test_one_chip_hardly_ever_fails() -> None:
    assert goodput(1, 1e11).share > 0.999


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(1, 200_000), st.integers(2, 16), st.booleans(), st.sampled_from([None, 1e9, 1e12]), st.floats(0, 2000))
def test_shares_sum_to_one_and_more_chips_never_raise_them(
    chips: int, factor: int, asynchronous: bool, storage: float | None, restart_s: float
) -> None:
    operation = Operation(asynchronous=asynchronous, storage_bytes_per_s=storage, restart_s=restart_s, planned_per_day=1)
    few, many = goodput(chips, 1e12, operation), goodput(chips * factor, 1e12, operation)
    for found in (few, many):
        assert math.fsum(found.shares.values()) == pytest.approx(1)
        assert all(share >= 0 for share in found.shares.values())
    if storage is not None:  # a storage that grows with the chips makes maintenance shorter
        assert many.share <= few.share * (1 + 1e-9)


def test_faster_storage_quicker_restarts_and_fewer_failures_never_hurt() -> None:
    base = Operation(failures_per_chip_hour=2e-5, restart_s=600, storage_bytes_per_s=1e10, pause_s=5)
    share = goodput(4096, 1e12, base).share
    for better in ({"storage_bytes_per_s": 1e11}, {"restart_s": 60}, {"failures_per_chip_hour": 1e-5}, {"pause_s": 1}):
        assert goodput(4096, 1e12, Operation(**{**vars(base), **better})).share > share


def test_a_write_in_the_background_costs_less_than_a_pause_as_long() -> None:
    waiting, beside = (goodput(4096, 1e12, Operation(storage_bytes_per_s=1e10, asynchronous=kind)) for kind in (False, True))
    assert waiting.share < beside.share


@pytest.mark.parametrize(
    ("optimizer", "dtype", "expected"),
    [("adam", "bf16", 14), ("adam", "fp32", 12), ("adam-bf16", "bf16", 10), ("adam-8bit", "fp8", 8), ("sgd", None, 10)],
)
def test_a_checkpoint_holds_weights_and_moments(optimizer: str, dtype: str | None, expected: int) -> None:
    model = load_model("llama3-8b")
    assert checkpoint_bytes(model, Plan(global_batch=1, optimizer=optimizer, dtype=dtype)) == expected * model.parameters  # type: ignore[arg-type]


def test_it_is_told_in_words_with_every_input_and_its_evidence() -> None:
    found = goodput(16384, LLAMA3_BYTES)
    assert "a failure every 186 min, a checkpoint every" in found.describe()
    assert {"failures", "restart", "checkpoint storage", "pause of a checkpoint", "checkpoint interval"} == {
        one.what for one in found.inputs
    }
    assert "arXiv:2407.21783" in found.inputs[0].evidence.source
    own = goodput(16384, LLAMA3_BYTES, Operation(failures_per_chip_hour=1e-5))
    assert own.inputs[0].evidence.level == "assumed"
    assert own.low == own.share == own.high


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"failures_per_chip_hour": -1e-5}, "failures_per_chip_hour is -1e-05; give a number of at least 0"),
        ({"restart_s": math.nan}, "restart_s is nan"),
        ({"storage_bytes_per_s": 0.0}, "storage_bytes_per_s is 0; give a number above 0"),
        ({"interval_s": 0.0}, "interval_s is 0"),
    ],
)
def test_a_number_that_cannot_be_is_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Operation(**wrong)  # type: ignore[arg-type]


def test_an_interval_shorter_than_the_write_is_refused_with_the_least_one() -> None:
    with pytest.raises(InputError, match=r"writing a checkpoint of 1000 GB takes 100 s; give at least 94 s"):
        goodput(8, 1e12, Operation(interval_s=60, storage_bytes_per_s=1e10, pause_s=6))
    with pytest.raises(InputError, match="give at least 1"):
        goodput(0, 1e12)


def test_a_wrong_cell_of_the_table_is_named(tmp_path) -> None:
    table = tmp_path / "failures.csv"
    table.write_text("id,chip,chip_days,failures,what,evidence,source\na,X,0,1,b,published,c\n")
    with pytest.raises(FileError, match=r"failures.csv, line 2, column chip_days: a rate needs a number above 0"):
        load_failure_rates(table)
