"""Goals of a GPU run: right ratios, like compared with like, and nothing reached that was not measured."""

from __future__ import annotations

import pytest

from chipassay.results.schema import Row
from chipassay.runners.goals import goal_lines, goals, speedup


def product(kernel: str, time_s: float, m: int = 4096, **more: object) -> Row:
    columns = {
        "op": "matmul",
        "dtype": "bf16",
        "m": m,
        "n": 4096,
        "k": 4096,
        "layout": "nn",
        "cache": "cold",
        "launch": "stream",
        "status": "ok",
    }
    return Row(**{**columns, "backend": kernel.split(".")[0], "kernel": kernel, "time_median_s": time_s, **more})  # type: ignore[arg-type]


def value(rows: list[Row], name: str) -> float | None:
    (goal,) = [goal for goal in goals(rows) if goal.name == name]
    return goal.value


def test_the_speedup_is_the_geometric_mean_over_the_cases_that_both_have() -> None:
    rows = [product("triton.a", 1.0), product("torch.mm", 2.0), product("triton.a", 1.0, m=8192), product("torch.mm", 0.5, m=8192)]
    rows.append(product("torch.mm", 100.0, m=2048))
    assert value(rows, "Triton bf16 matmul") == pytest.approx(1.0)
    ratio, cases = speedup(rows, lambda r: True, lambda r: r.backend == "triton", lambda r: r.backend == "torch")
    assert (ratio, cases) == (pytest.approx(1.0), 2)


def test_no_goal_is_reached_by_a_row_above_a_physical_limit() -> None:
    impossible = {"flags": "throttled;above the chip's peak rate"}
    rows = [
        product("triton.a", 1e-3, **impossible),
        product("triton.a", 2.0, m=8192),
        product("torch.mm", 1.0),
        product("torch.mm", 1.0, m=8192),
    ]
    assert value(rows, "Triton bf16 matmul") == pytest.approx(0.5)
    copies = [
        Row(op="copy", status="ok", cache="cold", bytes=1e10, last_level_cache_bytes=10**6, peak_fraction=share, flags=flags)
        for share, flags in ((0.9, None), (1.4, "above the memory's bandwidth"))
    ]
    assert value(copies, "copy bandwidth") == 0.9


def test_a_chip_without_bf16_is_judged_in_fp16() -> None:
    rows = [product("triton.a", 1.0, dtype="fp16"), product("torch.mm", 2.0, dtype="fp16"), product("torch.mm", 9.0, native=False)]
    assert value(rows, "Triton fp16 matmul") == pytest.approx(2.0)


def test_the_best_kernel_of_each_side_counts_and_a_wrong_one_never() -> None:
    rows = [product("triton.a", 3.0), product("triton.b", 2.0), product("triton.c", 0.1, status="incorrect"), product("torch.mm", 1.0)]
    assert value(rows, "Triton bf16 matmul") == pytest.approx(0.5)


@pytest.mark.parametrize("other", [{"layout": "tn"}, {"cache": "warm"}, {"launch": "graph"}, {"dtype": "fp16"}, {"m": 64}])
def test_unlike_rows_are_not_compared(other: dict[str, object]) -> None:
    (goal,) = [g for g in goals([product("triton.a", 1.0), product("torch.mm", 2.0, **other)]) if g.name == "Triton bf16 matmul"]  # type: ignore[arg-type]
    assert (goal.value, goal.reached) == (None, None)
    assert "no case" in goal.note


def test_a_copy_counts_beyond_the_cache_only() -> None:
    copy = {"op": "copy", "dtype": "fp32", "cache": "cold", "launch": "stream", "status": "ok", "last_level_cache_bytes": 50 * 2**20}
    inside = Row(**copy, bytes=2.0**20, peak_fraction=1.5)  # type: ignore[arg-type]
    beyond = Row(**copy, bytes=2.0**32, peak_fraction=0.93)  # type: ignore[arg-type]
    assert value([inside, beyond], "copy bandwidth") == 0.93
    assert value([inside], "copy bandwidth") is None


def test_fp8_is_held_against_the_best_published_figure_of_the_chip() -> None:
    row = product("torch._scaled_mm", 1.0, dtype="fp8_e4m3", chip_id="h100-sxm-80gb", rate_flops_per_s=1332.47e12)
    assert value([row], "fp8 matmul against the best known") == pytest.approx(0.95, abs=1e-4)  # of 1402.6, stas00/ml-engineering
    unknown = product("torch._scaled_mm", 1.0, dtype="fp8_e4m3", chip_id="cpu-zen-4-2c", rate_flops_per_s=1.0)
    assert value([unknown], "fp8 matmul against the best known") is None


def test_the_suites_best_is_held_against_a_search_over_shapes() -> None:
    rows = [product("torch.mm", 1.0, rate_flops_per_s=780e12), product("triton.a", 1.0, rate_flops_per_s=790e12)]
    (goal,) = [goal for goal in goals(rows, {"bf16": 800e12}) if "search" in goal.name]
    assert goal.value == pytest.approx(790 / 800)
    assert goal.reached


def test_the_table_says_reached_missed_and_not_measured() -> None:
    lines = goal_lines(goals([product("triton.a", 3.0), product("torch.mm", 1.0)]))
    assert [line.split("|")[4].strip() for line in lines[2:]] == ["missed", *["not measured"] * 4]
    assert goal_lines(goals([]))[2].split("|")[4].strip() == "not measured"
