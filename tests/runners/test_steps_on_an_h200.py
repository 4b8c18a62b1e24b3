"""Training steps that were measured on an H200, beside what the scaling model says of them today."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from chipassay.runners.training_step.prediction import Predicted, one_chip, plan_of, predicted
from chipassay.runners.training_step.trainer import as_trained
from chipassay.runners.training_step.words import told
from chipassay.scaling.models import load_model

STEPS = Path(__file__).parents[2] / "results" / "h200-sxm-141gb" / "second" / "steps.csv"


@dataclass(frozen=True)
class Beside:
    name: str
    row: dict[str, str]
    now: Predicted

    @property
    def step_error(self) -> float:
        return self.now.prediction.step_time_s / float(self.row["step_s"]) - 1

    @property
    def peak_error(self) -> float:
        return self.now.allocated_bytes / float(self.row["peak_bytes"]) - 1


def _beside(row: dict[str, str]) -> Beside:
    model = as_trained(load_model(row["model"]).with_seq_len(int(row["seq_len"])))
    plan = plan_of(int(row["microbatch"]), row["dtype"], "flash", row["recompute"], row["compiled"] == "yes")
    name = f"{row['model']} {row['microbatch']} x {row['seq_len']}, recompute {row['recompute']}, compiled {row['compiled']}"
    return Beside(name, row, predicted(model, plan, one_chip(row["chip"])))


@pytest.fixture(scope="module")
def steps() -> list[Beside]:
    with STEPS.open(newline="", encoding="utf-8") as lines:
        return [_beside(row) for row in csv.DictReader(lines)]


def test_each_step_lies_in_the_interval_of_its_prediction(steps: list[Beside]) -> None:
    assert len(steps) == 9
    for step in steps:
        assert step.now.prediction.low_s <= float(step.row["step_s"]) <= step.now.prediction.high_s, (step.name, step.step_error)


def test_the_steps_are_predicted_within_five_percent_on_average(steps: list[Beside]) -> None:
    errors = {step.name: step.step_error for step in steps}
    assert mean(map(abs, errors.values())) < 0.05, errors


def test_the_memory_is_predicted_within_three_percent_on_average_and_never_too_low(steps: list[Beside]) -> None:
    errors = {step.name: step.peak_error for step in steps}
    assert mean(map(abs, errors.values())) < 0.03, errors
    assert min(errors.values()) > -0.01, errors


def test_parts_that_do_not_add_up_to_the_step_are_called_noise(steps: list[Beside]) -> None:
    for step in steps:
        row = {name: _value(text) for name, text in step.row.items()}
        assert not any("too noisy" in line for line in told(row)), step.name
        parts = next(line for line in told({**row, "forward_s": 2 * row["step_s"]}) if line.startswith("  parts"))
        assert "not to the step: too noisy" in parts


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text or None
