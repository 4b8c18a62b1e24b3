"""The model of a run: the sizes that its row gives, in layers of the kind that its family has (families.csv)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from chipassay.results.datafile import Line
from chipassay.scaling.models import Experts, Transformer, load_model, preset_names

from .rows import Run
from .tables import Unusable, first_match

COLUMNS = ("pattern", "base", "changes", "presets", "source")
PRESET_TOLERANCE = 0.08
"""A preset stands for a row's model if their parameters differ by less: rows round (7 for 6.7), neighbours differ by a third."""
USUAL_ASPECT = 140.0
"""hidden / layers of large GPT models: 12288 / 96 = 128 (GPT-3 175B, arXiv 2005.14165 table 2.1) to 6144 / 40 = 154 (arXiv 2104.04473
table 1). Used where a row gives parameters alone."""
USUAL_LENGTH = 2048
"""Tokens of a sequence where neither the row nor a preset says: GPT-3 (arXiv 2005.14165, section 2.1)."""
PADDED_AT_MOST = 0.06
"""Layers that may be added so that virtual stages divide them: there the embedding and the logits stand in a layer's place, as in the
released recipes of Llama 3 405B (126 layers, arXiv 2407.21783 section 3.3.2) and DeepSeek-V3 (61)."""


@lru_cache(maxsize=256)
def _family_presets(prefixes: str) -> tuple[Transformer, ...]:
    """The presets whose names begin with one of the prefixes, those of the first prefix first."""
    return tuple(load_model(name) for prefix in prefixes.split(";") if prefix for name in preset_names() if name.startswith(prefix))


@lru_cache(maxsize=256)
def _preset(prefixes: str, params_b: float | None) -> Transformer | None:
    """The preset of the family that is near enough in parameters; of the family named first, the nearest."""
    if params_b is None:
        return None
    for prefix in prefixes.split(";"):
        off = {model.name: abs(model.parameters / 1e9 / params_b - 1) for model in _family_presets(prefix)}
        best = min(off, key=lambda name: off[name], default=None)
        if best is not None and off[best] < PRESET_TOLERANCE:
            return load_model(best)
    return None


def _usual_shape(params_b: float, vocab: int) -> tuple[int, int]:
    """(layers, hidden) of a GPT of that many parameters, hidden a multiple of 1024 (of 256 below a billion)."""
    unit = 1024 if params_b >= 1 else 256

    def layers(hidden: int) -> float:
        return (params_b * 1e9 - vocab * hidden) / (12.0 * hidden * hidden)

    choices = [hidden for hidden in range(unit, 40 * 1024, unit) if layers(hidden) >= 1]
    if not choices:
        raise Unusable(f"no model of {params_b:g} billion parameters has a vocabulary of {vocab}")
    hidden = min(choices, key=lambda one: abs(one / layers(one) / USUAL_ASPECT - 1))
    return max(1, round(layers(hidden))), hidden


def _shape(run: Run, base: Transformer, vocab: int) -> tuple[int, int, str]:
    """(layers, hidden, what was guessed)."""
    if run.layers and run.hidden:
        return run.layers, run.hidden, ""
    if run.params_b is None:
        raise Unusable("neither its sizes nor its parameters are given")
    if run.hidden:
        ffn = _widths(run, base, run.hidden)["ffn_hidden"]
        layer = 4 * run.hidden**2 + base.mlp_matrices * run.hidden * ffn
        return max(1, round((run.params_b * 1e9 - vocab * run.hidden) / layer)), run.hidden, "layers, from the parameters"
    if run.layers:
        return run.layers, round((run.params_b * 1e9 / run.layers / 12) ** 0.5 / 128) * 128, "hidden, from the parameters"
    return *_usual_shape(run.params_b, vocab), "layers and hidden, from the parameters and a usual shape"


def _widths(run: Run, base: Transformer, hidden: int) -> dict[str, Any]:
    """The widths of one layer, by the row or by what is usual."""
    heads = run.heads or max(1, hidden // 128)
    usual_ffn = round(8 * hidden / 3 / 256) * 256 if base.gated else 4 * hidden
    return {
        "hidden": hidden,
        "heads": heads,
        "kv_heads": run.kv_heads or heads,
        "head_dim": max(1, hidden // heads),
        "ffn_hidden": run.ffn_hidden or usual_ffn,
    }


def _changes(text: str) -> dict[str, Any]:
    """``name=yes name=no`` as fields.

    >>> _changes("tied_embeddings=yes alibi=no")
    {'tied_embeddings': True, 'alibi': False}
    """
    return {name: value == "yes" for name, value in (one.split("=") for one in text.split())}


def family_of(run: Run) -> Line:
    """The line of families.csv of the run's model. Unusable for a family that is unknown or not modelled."""
    if "(assumed)" in run.model_family:
        raise Unusable(f"the source does not state the model: {run.model_family}")
    family = first_match("families.csv", COLUMNS, run.model_family)
    if family is None or "MoE on" in run.model_family:
        raise Unusable(f"the model family {run.model_family!r} is not known" if run.model_family else "the model is not named")
    if not family.text("base"):
        raise Unusable(family.text("source"))
    return family


def model_of(run: Run) -> tuple[Transformer, list[str]]:
    """(model, what of it was guessed). Unusable where nothing is known of it."""
    family = family_of(run)
    if run.seq_len and not run.seq_len.isdigit():
        raise Unusable(f"sequences of more than one length ({run.seq_len})")
    changes = _changes(family.text("changes"))
    known = _known(run, family)
    if known is not None:
        changed: dict[str, Any] = {
            "layers": run.layers or known.layers,
            "vocab": run.vocab or known.vocab,
            "seq_len": int(run.seq_len or known.seq_len),
        }
        model = replace(known, name=f"{run.model_family} ({known.name})", **changes, **changed)
        if run.layers and run.layers < known.layers:
            model = replace(model, mtp_depth=0)  # a model cut short for a benchmark
        return model, [] if run.hidden else [f"sizes of {known.name}"]
    base = load_model(family.text("base"))
    guessed = [name for name, cell in (("sequence length", run.seq_len), ("vocabulary", run.vocab)) if not cell]
    vocab = run.vocab or base.vocab
    layers, hidden, shape_guessed = _shape(run, base, vocab)
    guessed += filter(None, [shape_guessed, "" if run.heads else "heads of 128"])
    experts = base.experts
    if run.moe_experts:
        experts = Experts(count=run.moe_experts, active=run.moe_topk or 1, ffn_hidden=run.ffn_hidden or 4 * hidden)
    widths = _widths(run, base, hidden)
    model = replace(
        base,
        name=f"{run.model_family} {run.params_b or 0:g}B",
        layers=layers,
        vocab=vocab,
        seq_len=int(run.seq_len or USUAL_LENGTH),
        experts=experts,
        source=run.evidence,
        **changes,
        **widths,
    )
    return model, guessed


def _known(run: Run, family: Line) -> Transformer | None:
    """A preset that has the row's widths, or stands for those that it does not give."""
    prefixes = family.text("presets")
    if run.hidden is None:
        return _preset(prefixes, run.params_b)
    for model in (*_family_presets(prefixes), load_model(family.text("base"))):
        same_ffn = run.ffn_hidden in (None, model.ffn_hidden, model.experts.ffn_hidden if model.experts else None)
        same_experts = not run.moe_experts or (model.experts is not None and model.experts.count == run.moe_experts)
        mixed_alike = (model.experts is None) == (run.moe_experts is None)
        near = run.params_b is None or abs(model.parameters / 1e9 / run.params_b - 1) < PRESET_TOLERANCE
        if not run.layers and not near:
            continue
        same_keys = model.latent is not None or run.kv_heads in (None, model.kv_heads)
        if (model.hidden, model.heads) == (run.hidden, run.heads) and same_ffn and same_experts and mixed_alike and same_keys:
            return model
    return None


def padded(run: Run, model: Transformer) -> tuple[Transformer, str]:
    """The model with so many layers that the row's virtual stages divide them, if few lack; and what was done, in words."""
    pp, interleave = run.pp or 1, run.vpp_interleave or 1
    stages = pp * interleave
    wanted = -(-model.layers // stages) * stages
    if pp == 1 or (interleave == 1 and run.vpp_interleave) or wanted == model.layers or wanted > model.layers * (1 + PADDED_AT_MOST):
        return model, ""
    return replace(model, layers=wanted), f"{wanted} layers for {model.layers}, embedding and logits in the place of some"
