"""Rows made of numbers, their noise, and what a comparison says of them."""

from __future__ import annotations

import math

import numpy as np

from chipassay.results.compare.columns import columns_of_rows
from chipassay.results.compare.compare import compare
from chipassay.results.compare.comparison import Settings
from chipassay.results.schema import Row

OPPOSITE = {"FASTER": "SLOWER", "SLOWER": "FASTER"}


def row(case=0, samples=(1e-3,) * 12, **more):
    given = {
        "op": "matmul", "m": case, "n": 8, "k": 8, "dtype": "fp32", "kernel": "torch.mm", "run_id": "a", "chip_id": "chip", "cache": "cold",
        "status": "ok", "method_version": 2, "data": "normal", "flops": 1e9, "bytes": 1e6,
    }  # fmt: skip
    if samples is not None:
        given |= {"samples_s": tuple(samples), "time_median_s": float(np.median(samples))}
    return Row(**{**given, **more})


def verdicts(base, new, chosen=None):
    found = compare(columns_of_rows(base, "base"), columns_of_rows(new, "new"), chosen or Settings())
    return found.pairs["verdict"].tolist(), found


def noisy(rng, cases, count=30, *, change=0.0, noise=0.03, run="a", shift=0.0, tail=False, drift=0.0):
    """Rows of one run: log-normal noise around each case's own time, all of the run's cases shifted alike."""
    kick = rng.standard_t(3, (cases, count)) / math.sqrt(3) if tail else rng.standard_normal((cases, count))
    logs = change + shift + noise * kick + drift * np.linspace(-0.5, 0.5, count)
    return [row(case, 1e-3 * (1 + case % 7) * np.exp(logs[case]), run_id=run) for case in range(cases)]


def visited(rng, cases, run, shift):
    """One run of two visits, minutes apart, that the machine shifts alike for all cases."""
    visits = [noisy(rng, cases, shift=shift * rng.standard_normal()) for _ in range(2)]
    return [row(case, (*a.samples_s, *b.samples_s), run_id=run, round_count=2) for case, (a, b) in enumerate(zip(*visits, strict=True))]
