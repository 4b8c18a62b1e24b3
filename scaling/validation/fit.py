"""Fit the calibrated constants again, each on the sources that it names: least mean over them of the median |log error|; and the same with
each source left out. A constant of which no other source tells is then what it was taken for before any run was looked at.

``python -m chipassay.scaling.validation.fit [--write]``: prints the constants and the errors; ``--write`` makes left_out.csv.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

import numpy as np

from chipassay.results.errors import ChipassayError
from chipassay.scaling import constants
from chipassay.scaling.uncertainty import MODEL_SIGMA, Z80

from .left_out import ALL, COLUMNS, LEFT_OUT_CSV, LeftOut, leave_one_source_out, words
from .rows import read_runs
from .validate import LOOSE_METRICS, Case, Outcome, case_of, outcome_of, validate

MOST_OF_A_SOURCE = 30
"""Runs of one source that the fit looks at, evenly spaced: a median needs no thousand."""
FACTORS = (1.6, 1.25, 1.1, 1.04)
"""Steps of the search, one round of all constants with each: a value is multiplied or divided by so much while that helps."""
MOST_STEPS = 8
LEAST_GAIN = 0.0003
"""A step that gains less is not taken: where a source is left out, nothing may tell a constant, and it stays where it was."""
COVERAGE = 0.82
"""Share of the runs that 80 % intervals are made to hold: within the 75 to 90 % asked for, and above 80 because unseen runs do worse."""
LARGEST_SHARE = 0.98


def calibrated() -> dict[str, constants.Constant]:
    """Name in ``constants`` -> each constant that was calibrated on published runs."""
    listed = {id(one) for one in constants.CALIBRATED}
    return {name: one for name, one in vars(constants).items() if id(one) in listed and one.fitted_on}


def _holders(name: str) -> list[ModuleType]:
    """The modules of the model that hold the constant under its name: ``constants``, and those that import it from there."""
    one = getattr(constants, name)
    rooms = [module for key, module in sys.modules.items() if key.startswith("chipassay.scaling")]
    return [module for module in rooms if vars(module).get(name) is one]


@contextmanager
def set_to(values: Mapping[str, float]) -> Iterator[None]:
    """The model with other values of some constants."""
    before = {name: (getattr(constants, name), _holders(name)) for name in values}
    try:
        for name, value in values.items():
            one, holders = before[name]
            for holder in holders:
                setattr(holder, name, replace(one, value=value))
        yield
    finally:
        for name, (one, holders) in before.items():
            for holder in holders:
                setattr(holder, name, one)


def cases_by_source(names: Sequence[str]) -> dict[str, list[Case]]:
    """Source -> its scored runs made ready, MOST_OF_A_SOURCE at most; of sources that begin with one of the names."""
    found: dict[str, list[Case]] = {}
    for run in read_runs():
        if not run.scored or run.measured_metric in LOOSE_METRICS or not run.source.startswith(tuple(names)):
            continue
        try:
            found.setdefault(run.source, []).append(case_of(run))
        except ChipassayError:
            continue
    return {source: cases[:: max(1, -(-len(cases) // MOST_OF_A_SOURCE))] for source, cases in found.items()}


def errors_of(cases: Sequence[Case], values: Mapping[str, float]) -> list[float]:
    """Predicted over measured step time minus 1, of the cases that can be predicted."""
    found = []
    with set_to(values):
        for case in cases:
            try:
                error = outcome_of(case).error
            except ChipassayError:
                continue
            if error is not None:
                found.append(error)
    return found


def loss(cases: Mapping[str, Sequence[Case]], values: Mapping[str, float]) -> float:
    """Mean over the sources of the median |log(predicted / measured)|."""
    medians = []
    for some in cases.values():
        errors = errors_of(some, values)
        if errors:
            medians.append(float(np.median(np.abs(np.log1p(errors)))))
    return float(np.mean(medians))


def fit(
    cases: Mapping[str, Sequence[Case]], start: Mapping[str, float], fitted_on: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, float]:
    """The constants with the least loss near a start, one after the other, in ever smaller steps (coordinate descent): a few numbers, and a
    loss with kinks, on which a gradient would be of no use. The coarsest steps go on over flat ground: as long as the host is faster than
    the chip, its time per kernel tells nothing.

    ``fitted_on``: constant -> how the sources begin that tell of it; one that is not there is fitted on all. Else a constant would take up
    what is wrong elsewhere (the host's time per kernel, that of chips whose clocks are taken too high).
    """
    values = dict(start)
    for factor in FACTORS:
        for name in values:
            beginnings = (fitted_on or {}).get(name)
            telling = cases if beginnings is None else {source: some for source, some in cases.items() if source.startswith(beginnings)}
            if beginnings is not None and not telling:
                continue
            least = loss(telling, values)
            for way in (factor, 1 / factor):
                tried = values[name]
                for _ in range(MOST_STEPS):
                    tried *= way
                    if "SHARE" in name:
                        tried = min(tried, LARGEST_SHARE)
                    found = loss(telling, {**values, name: tried})
                    if found < least - LEAST_GAIN:
                        values[name], least = tried, found
                    elif factor != FACTORS[0] or found > least + LEAST_GAIN:
                        break
    return values


def model_sigmas(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Regime of uncertainty.py -> the model's own log deviation with which 80 % intervals hold COVERAGE of the outcomes, MOST_OF_A_SOURCE
    of each source at most (split conformal prediction: Papadopoulos et al. 2002, with the width of each run's inputs kept)."""
    found: dict[str, list[tuple[float, float]]] = {}
    of_source: Counter[str] = Counter()
    for one in outcomes:
        if not one.in_headline or one.regime not in MODEL_SIGMA or one.high_s is None or one.low_s is None or one.error is None:
            continue
        of_source[one.run.source] += 1
        if of_source[one.run.source] <= MOST_OF_A_SOURCE:
            whole = math.log(one.high_s / one.low_s) / (2 * Z80)
            inputs = math.sqrt(max(0.0, whole**2 - MODEL_SIGMA[one.regime] ** 2))
            found.setdefault(one.regime, []).append((abs(math.log1p(one.error)), inputs))
    sigmas = {}
    for regime, some in found.items():
        off, inputs_all = np.array(some).T
        grid = np.linspace(0.0, 1.0, 1001)
        covered = [float(np.mean(off <= Z80 * np.hypot(sigma, inputs_all))) for sigma in grid]
        sigmas[regime] = float(next((sigma for sigma, share in zip(grid, covered, strict=True) if share >= COVERAGE), 1.0))
    return sigmas


def sources_of_constants() -> tuple[str, ...]:
    """How the sources begin on which any constant was calibrated."""
    return tuple(sorted({source for one in calibrated().values() for source in one.fitted_on}))


def write(found: Sequence[LeftOut]) -> None:
    """Make left_out.csv."""
    with LEFT_OUT_CSV.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        now = words({name: one.value for name, one in calibrated().items()})
        writer.writerow((ALL, 0, "", "", now))
        writer.writerows((one.source, one.n, f"{one.median:.4f}", f"{one.bias:.4f}", words(one.constants)) for one in found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print, and write where asked to."""
    parser = argparse.ArgumentParser(prog="python -m chipassay.scaling.validation.fit", description=__doc__)
    parser.add_argument("--write", action="store_true", help="make left_out.csv, which the validation's headline uses")
    asked = parser.parse_args(arguments)
    for regime, sigma in model_sigmas(list(validate(read_runs()))).items():
        print(f"  MODEL_SIGMA of {regime}: {sigma:.3f} would hold {100 * COVERAGE:.0f} % of the runs (now {MODEL_SIGMA[regime]:.3f})")
    start = {name: one.value for name, one in calibrated().items()}
    if not start:
        print("no constant is calibrated on published runs: every source is out of sample")
        return
    cases = cases_by_source(sources_of_constants())
    print(f"{sum(map(len, cases.values()))} runs of {len(cases)} sources; loss as shipped: {loss(cases, start):.4f}")
    fitted_on = {name: one.fitted_on for name, one in calibrated().items()}
    fitted = fit(cases, start, fitted_on)
    for name, value in fitted.items():
        change = math.log(value / start[name]) if start[name] > 0 < value else 0.0
        print(f"  {name:24s} {value:.4g} (shipped {start[name]:.4g}, {100 * math.expm1(change):+.0f} %): {calibrated()[name].meaning}")
    print(f"loss of the fit: {loss(cases, fitted):.4f}")
    priors = {name: one.value if one.prior is None else one.prior for name, one in calibrated().items()}
    found = leave_one_source_out(
        cases,
        lambda others: fit({source: cases[source] for source in others}, priors, fitted_on),
        lambda source, values: errors_of(cases[source], values),
    )
    for one in found:
        print(f"  left out {one.source[:80]:80s} n {one.n:4d} median {100 * one.median:5.1f} % bias {100 * one.bias:6.1f} %")
    print(f"mean over the sources, each left out: {100 * float(np.mean([one.median for one in found])):.1f} %")
    if asked.write:
        write(found)


if __name__ == "__main__":
    main()
