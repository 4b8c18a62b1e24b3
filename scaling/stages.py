"""Which layers lie on which pipeline stage, and how many microbatches each stage holds at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .models import Transformer
from .pipeline.closed_form import in_flight as held_at_once
from .plans import Array, Plans


@dataclass(frozen=True, eq=False)
class Stages:
    """The stages that can be the fullest: the first, the second and the last. Arrays of shape (stages, plans)."""

    index: Array
    first: Array
    """1 where the chip holds the embedding (DualPipe: both ends are on one chip)."""
    last: Array
    """1 where the chip holds the head."""
    dense_layers: Array
    """Layers without experts whose activations one microbatch leaves on the chip."""
    expert_layers: Array
    copies: Array
    """Copies of these layers' weights (DualPipe: 2, for each chip also holds the mirrored stage)."""
    in_flight: Array
    """Microbatches whose activations are held at once."""

    @property
    def layers(self) -> Array:
        return self.dense_layers + self.expert_layers


def candidate_stages(model: Transformer, plans: Plans) -> Stages:
    """First, second and last stage of each plan: every other one holds no more layers than the second, and fewer microbatches.

    Where the stages do not divide the layers, the last is the first to go one short, for it has the logits, then the first, as in
    Llama 3 405B (arXiv 2407.21783, section 3.3.2: one layer fewer on both ends).
    """
    p = plans.pp
    index = np.stack([np.zeros_like(p), np.minimum(1, p - 1), p - 1])
    most = -(-model.layers // p)
    short = most * p - model.layers
    layers = most - ((index == p - 1) & (short >= 1)) - ((index == 0) & (p > 1) & (short >= 2))
    chunk = most // plans.interleave
    before = index * np.where(plans.interleave > 1, chunk, most) - ((index > 0) & (short >= 2))
    expert = expert_layers(model, before, layers, chunk)
    both_ends = (plans.settings.schedule == "dualpipe") & (p > 1)
    return Stages(
        index=index,
        first=((index == 0) | both_ends & (index == p - 1)).astype(np.int64),
        last=((index == p - 1) | both_ends & (index == 0)).astype(np.int64),
        dense_layers=layers - expert,
        expert_layers=expert,
        copies=np.where(both_ends, 2, 1),
        in_flight=in_flight(plans, index),
    )


def expert_layers(model: Transformer, before: Array, layers: Array, chunk: Array) -> Array:
    """Of ``layers`` layers after ``before`` others, those with experts; an interleaved chip's first chunk alone meets the dense ones."""
    experts = model.experts
    if experts is None:
        return np.zeros_like(layers)
    dense = np.clip(experts.first_dense - before, 0, chunk)
    if experts.every == 1:
        return layers - dense
    start = np.maximum(before - experts.first_dense, 0)
    return (start + layers - dense) // experts.every - start // experts.every


def in_flight(plans: Plans, index: Array | int = 0) -> Array:
    """Microbatches whose activations stage ``index`` holds, in units of all its layers (see ``closed_form.in_flight``)."""
    return held_at_once(plans.settings.schedule, plans.pp, plans.interleave, plans.microbatches, np.asarray(index))
