"""Tuned choices: the search finds the fastest, prunes, survives failures; the file is reused, and distrusted where it should be."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from chipassay.kernels import tuning
from chipassay.kernels.backends import installed
from chipassay.kernels.tuning import (
    COSTLIER,
    MOST_CANDIDATES,
    ROUND_MS,
    WAKE_MS,
    Choice,
    Choices,
    Config,
    NothingRuns,
    compile_all,
    distrust,
    prune,
    search,
    taken,
    tuned,
)

CONFIGS: list[Config] = [{"BLOCK": block, "num_warps": warps} for block in (32, 64, 128) for warps in (4, 8)]


def fake_time_s(config: Config, milliseconds: int) -> float:
    return abs(config["BLOCK"] - 64) + config["num_warps"] / 100 + 1e-3 / milliseconds


def test_the_fastest_candidate_wins() -> None:
    choice = search(CONFIGS, fake_time_s, triton="3.6.0")
    assert choice.config == {"BLOCK": 64, "num_warps": 4}
    assert (choice.tried, choice.failed, choice.triton) == (6, 0, "3.6.0")


def test_better_candidates_are_timed_longer_and_worse_ones_no_more() -> None:
    asked: list[tuple[int, int]] = []

    def time_s(config: Config, milliseconds: int) -> float:
        asked.append((config["i"], milliseconds))
        return config["i"]

    search([{"i": i} for i in range(9)], time_s, triton="x")
    counts = [sum(ms == milliseconds for _, ms in asked) for milliseconds in ROUND_MS]
    assert counts == [9, 3, 2]
    assert {i for i, ms in asked if ms == ROUND_MS[-1]} == {0, 1}


def test_candidates_that_do_not_compile_drop_out_and_are_counted() -> None:
    def time_s(config: Config, milliseconds: int) -> float:
        if config["BLOCK"] == 64:
            raise RuntimeError("out of shared memory")
        return fake_time_s(config, milliseconds)

    choice = search(CONFIGS, time_s, triton="x")
    assert choice.config == {"BLOCK": 32, "num_warps": 4}
    assert choice.failed == 2


def test_every_candidate_is_compiled_before_the_search_though_some_fail() -> None:
    seen: list[Config] = []

    def run(config: Config) -> None:
        seen.append(config)
        if config["num_warps"] == 4:
            raise RuntimeError("out of registers")

    compile_all(CONFIGS, run)
    assert seen[0] == CONFIGS[0]
    assert len(seen) == len(CONFIGS)


def test_candidates_run_on_the_device_and_in_the_context_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[int] = []

    @contextlib.contextmanager
    def device(index: int) -> Iterator[None]:
        entered.append(index)
        yield

    cuda = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, current_device=lambda: 3, device=device)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    allocator: ContextVar[str] = ContextVar("allocator")
    allocator.set("ours")
    seen: list[str] = []
    compile_all(CONFIGS, lambda config: seen.append(allocator.get()))
    assert seen == ["ours"] * len(CONFIGS)
    assert entered == [3] * len(CONFIGS)


def test_when_nothing_runs_the_first_reason_is_told() -> None:
    def time_s(config: Config, milliseconds: int) -> float:
        raise RuntimeError(f"no {config['BLOCK']}")

    with pytest.raises(NothingRuns, match=r"none of 6 configurations runs; the first: .*RuntimeError: no 32"):
        search(CONFIGS, time_s, triton="x")


def test_hopeless_candidates_are_never_compiled() -> None:
    configs = [{"i": i} for i in (100, 1, 2, 3)]
    assert [c["i"] for c in prune(configs, lambda c: float(c["i"]))] == [i for i in (1, 2) if i <= COSTLIER]
    assert len(prune([{"i": i} for i in range(100)], lambda c: 1.0)) == MOST_CANDIDATES
    assert prune(CONFIGS, None) == CONFIGS


CHOICE = Choice(config={"BLOCK": 64, "num_warps": 4}, time_s=1e-3, tried=6, failed=0, triton="3.6.0", searched_at_utc="2026-01-01")


def test_a_second_run_finds_what_the_first_one_kept(tmp_path: Path) -> None:
    path = tmp_path / "tuned" / "h100.json"
    Choices.of(path).keep("matmul m=1", CHOICE)
    Choices.of(path).keep("matmul m=2", replace(CHOICE, time_s=2e-3))
    again = Choices.of(path)
    assert again.find("matmul m=1", CONFIGS, "3.6.0") == CHOICE
    assert again.find("matmul m=2", CONFIGS, "3.6.0") == replace(CHOICE, time_s=2e-3)
    assert [file.name for file in path.parent.iterdir()] == ["h100.json"]


@pytest.mark.parametrize(("candidates", "triton"), [(CONFIGS, "3.7.0"), (CONFIGS[:2], "3.6.0")])
def test_a_choice_of_another_compiler_or_of_a_dropped_candidate_is_not_used(candidates: list[Config], triton: str) -> None:
    choices = Choices()
    choices.keep("matmul", CHOICE)
    assert choices.find("matmul", candidates, triton) is None


def test_shipped_choices_are_used_and_not_copied_into_the_runs_own_file(tmp_path: Path) -> None:
    Choices.of(tmp_path / "shipped.json").keep("shipped", CHOICE)
    choices = Choices.of(tmp_path / "own.json", shipped=[tmp_path / "shipped.json"])
    assert choices.find("shipped", CONFIGS, "3.6.0") == CHOICE
    choices.keep("own", CHOICE)
    assert list(json.loads((tmp_path / "own.json").read_text())["choices"]) == ["own"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99, "choices": {}}', '{"version": 1, "choices": {"a": {"config": 1}}}'])
def test_a_broken_file_costs_a_search_and_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "h100.json"
    path.write_text(text)
    choices = Choices.of(path)
    assert choices.find("matmul", CONFIGS, "3.6.0") is None
    assert choices.problem is not None
    assert str(path) in choices.problem
    choices.keep("matmul", CHOICE)
    assert Choices.of(path).problem is None


def test_a_folder_that_cannot_be_written_costs_a_search_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    choices = Choices.of(tmp_path / "file" / "h100.json")
    choices.keep("matmul", CHOICE)
    assert "cannot be written" in str(choices.problem)
    assert choices.find("matmul", CONFIGS, "3.6.0") == CHOICE


def test_the_search_is_made_once_for_each_key(monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed("triton"):
        pytest.skip("triton is not installed, and choices are kept by its version")
    monkeypatch.setattr(tuning, "_choices", Choices())
    monkeypatch.setattr(tuning, "_time_s", lambda run, config, milliseconds: fake_time_s(config, milliseconds))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    searched: list[int] = []
    monkeypatch.setattr(tuning, "search", lambda *a, **k: searched.append(1) or search(*a, **k))
    for m in (1, 1, 2):
        assert tuned("k", {"m": m}, CONFIGS, lambda config: None)["BLOCK"] == 64
    assert len(searched) == 2


def test_the_chip_is_woken_before_the_first_candidate_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed("triton"):
        pytest.skip("triton is not installed, and choices are kept by its version")
    asked: list[tuple[Config, int]] = []

    def time_s(run: object, config: Config, milliseconds: int) -> float:
        asked.append((config, milliseconds))
        # Asleep it takes five times as long.
        return (5.0 if len(asked) == 1 else 1.0) * (1 + CONFIGS.index(config))

    monkeypatch.setattr(tuning, "_choices", Choices())
    monkeypatch.setattr(tuning, "_time_s", time_s)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert tuned("k", {}, CONFIGS, lambda config: None) == CONFIGS[0]
    assert asked[:2] == [(CONFIGS[0], WAKE_MS), (CONFIGS[0], ROUND_MS[0])]


def test_the_last_one_standing_after_the_device_broke_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed("triton"):
        pytest.skip("triton is not installed, and choices are kept by its version")
    choices, timed = Choices(), []
    monkeypatch.setattr(tuning, "_choices", choices)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def time_s(run: object, config: Config, milliseconds: int) -> float:
        timed.append(config)
        if len(timed) > 2:
            raise RuntimeError("an illegal memory access was encountered")
        return 1.0

    monkeypatch.setattr(tuning, "_time_s", time_s)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        tuned("k", {}, CONFIGS, lambda config: None)
    assert choices.known == {}


def test_without_a_search_the_best_prediction_that_runs_is_taken_and_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not installed("triton"):
        pytest.skip("triton is not installed, and choices are kept by its version")
    choices = Choices.of(tmp_path / "h100.json", searching=False)
    monkeypatch.setattr(tuning, "_choices", choices)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def run(config: Config) -> None:
        if config["BLOCK"] == 128:
            raise RuntimeError("out of shared memory")

    assert tuned("k", {}, CONFIGS, run, cost=lambda config: 1 / config["BLOCK"]) == {"BLOCK": 64, "num_warps": 4}
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NothingRuns, match="none of 2 configurations runs"):
        tuned("k", {}, CONFIGS[-2:], run)


def test_a_choice_whose_results_were_wrong_is_never_taken_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not installed("triton"):
        pytest.skip("triton is not installed, and choices are kept by its version")
    monkeypatch.setattr(tuning, "_time_s", lambda run, config, milliseconds: fake_time_s(config, milliseconds))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    path = tmp_path / "h100.json"
    monkeypatch.setattr(tuning, "_choices", Choices.of(path))
    with taken() as first:
        assert tuned("k", {}, CONFIGS, lambda config: None) == {"BLOCK": 64, "num_warps": 4}
        tuned("other", {}, CONFIGS[:1], lambda config: None)
    assert first == {"k": {"BLOCK": 64, "num_warps": 4}, "other": CONFIGS[0]}
    distrust({"k": first["k"]})
    assert list(json.loads(path.read_text())["choices"]) == ["other"], "a wrong choice does not stay in the file"
    assert tuned("k", {}, CONFIGS, lambda config: None) == {"BLOCK": 64, "num_warps": 8}
    kept = Choices.of(path).known["k"]
    assert (kept.config, kept.wrong) == ({"BLOCK": 64, "num_warps": 8}, [{"BLOCK": 64, "num_warps": 4}])
    with pytest.raises(NothingRuns, match="k: every configuration gave wrong results"):
        tuned("k", {}, CONFIGS[2:3], lambda config: None)


def test_the_interpreter_takes_the_first_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert tuned("k", {}, CONFIGS, lambda config: None) == CONFIGS[0]


def test_a_kernel_without_configurations_says_so() -> None:
    with pytest.raises(ValueError, match="k has no configuration for"):
        tuned("k", {"m": 1}, [], lambda config: None)
