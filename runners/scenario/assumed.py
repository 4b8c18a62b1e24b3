"""What an answer takes for granted: tokens and batches, networks, software, prices, and how good the evidence of all inputs is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from chipassay.results.evidence import LEVELS
from chipassay.results.fabrics import FABRIC_NAME
from chipassay.scaling.as_of import software_input
from chipassay.scaling.machine import Input
from chipassay.scaling.models import load_model

from .labels import label
from .records import Case, Question, Run, Scenario

NETWORK = "network between nodes"
"""How a prediction names that input."""


def assumed(question: Question, scenario: Scenario, cases: Sequence[Case]) -> Iterator[str]:
    """A line for each thing that is taken for granted."""
    inputs = list(dict.fromkeys(found for case in cases for found in case.inputs))
    if question.options.get("models"):
        yield "Models and runs: " + "; ".join(_model(model, scenario.runs.get(model)) for model in question.options["models"]) + "."
    if networks := dict.fromkeys(_network(found) for found in inputs if NETWORK in found.what):
        yield "Networks, of each node: " + "; ".join(networks) + "."
    software = "software of today, tuned" if scenario.as_of is None else software_input(scenario.as_of)
    if isinstance(software, Input):
        yield f"Software of {scenario.as_of}: {software.value} ({software.evidence.source}); each side with its own best plan."
    else:
        yield f"Plans: each with its own best one, {software}."
    prices = dict.fromkeys(
        str(case.numbers[name]) for case in cases for name in ("price", "price of the reference") if case.numbers.get(name)
    )
    if prices:
        until = "" if scenario.prices_until is None else f", quoted until {scenario.prices_until}"
        yield f"Prices per chip and hour{until}: " + "; ".join(price.replace(" per chip and hour", "") for price in prices) + "."
    if inputs:
        yield f"Evidence of the {len(inputs)} inputs: {_levels(inputs)}."


def _model(model: str, run: Run | None) -> str:
    length = load_model(model).seq_len
    if run is None:
        return f"{label(model)} (sequences of {length:,})"
    tokens = f"{run.tokens / 1e12:.3g} trillion" if run.tokens >= 1e12 else f"{run.tokens / 1e9:.3g} billion"
    batch = f"sequences of {length:,}" if run.batch is None else f"{run.batch:,} sequences of {length:,} a step"
    return f"{label(model)} ({tokens} tokens, {batch})"


def _network(found: Input) -> str:
    """Of an input ``h100-sxm-80gb: network between nodes``, whose value begins with the fabric's name."""
    chip = found.what.partition(":")[0]
    fabric = found.value.partition(":")[0]
    told = label(fabric) if FABRIC_NAME.fullmatch(fabric) else found.value
    return f"{label(chip)} {told} ({found.evidence.level})" if NETWORK not in chip else f"{told} ({found.evidence.level})"


def _levels(inputs: Iterable[Input]) -> str:
    levels = [found.evidence.level for found in inputs]
    return ", ".join(f"{levels.count(level)} {level}" for level in LEVELS if level in levels)
