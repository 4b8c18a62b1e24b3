"""The model of a run: the sizes that its row gives, what its family is known for (families.csv), and a preset for what is left."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from chipassay.scaling.models import Experts, Transformer, load_model, preset_names

from .rows import Run
from .tables import Unusable, first_match

COLUMNS = (
    "pattern", "gated", "rms_norm", "biases", "qkv_biases", "learned_positions", "tied_embeddings", "dropout", "causal", "vocab",
    "presets", "source",
)  # fmt: skip
FLAGS = COLUMNS[1:9]
PRESET_TOLERANCE = 0.08
"""A preset stands for a row's model if their parameters differ by less: rows round (7 for 6.7), neighbours differ by a third."""
USUAL_ASPECT = 140.0
"""hidden / layers of large GPT models: 12288 / 96 = 128 (GPT-3 175B, arXiv 2005.14165 table 2.1) to 6144 / 40 = 154 (arXiv 2104.04473
table 1). Used where a row gives parameters alone."""


def sequence_length(run: Run) -> int | None:
    """The length as a number; None where the row leaves it empty. Unusable for a mix of lengths."""
    if not run.seq_len:
        return None
    if not run.seq_len.isdigit():
        raise Unusable(f"sequences of more than one length ({run.seq_len})")
    return int(run.seq_len)


def _family_presets(prefixes: str) -> list[Transformer]:
    """The presets whose names begin with one of the prefixes, those of the first prefix first."""
    return [load_model(name) for prefix in prefixes.split(";") if prefix for name in preset_names() if name.startswith(prefix)]


@lru_cache(maxsize=256)
def _preset(prefixes: str, params_b: float | None) -> Transformer | None:
    """The preset of the family that is near enough in parameters; of the family named first, the nearest."""
    for prefix in prefixes.split(";") if params_b is not None else ():
        off = {model.name: abs(model.parameters / 1e9 / params_b - 1) for model in _family_presets(prefix)}
        best = min(off, key=lambda name: off[name], default=None)
        if best is not None and off[best] < PRESET_TOLERANCE:
            return load_model(best)
    return None


def _usual_shape(params_b: float, vocab: int) -> tuple[int, int]:
    """(layers, hidden) of a GPT of that many parameters, hidden a multiple of 1024 (of 128 below 2 billion)."""
    unit = 1024 if params_b > 2 else 128

    def layers(hidden: int) -> float:
        return (params_b * 1e9 - vocab * hidden) / (12.0 * hidden * hidden)

    choices = [hidden for hidden in range(unit, 40 * 1024, unit) if layers(hidden) >= 1]
    if not choices:
        raise Unusable(f"no model of {params_b:g} billion parameters has a vocabulary of {vocab}")
    hidden = min(choices, key=lambda one: abs(one / layers(one) / USUAL_ASPECT - 1))
    return max(1, round(layers(hidden))), hidden


def _shape(run: Run, gated: bool, vocab: int) -> tuple[int, int, list[str]]:
    """(layers, hidden, what was guessed)."""
    if run.layers and run.hidden:
        return run.layers, run.hidden, []
    if run.params_b is None:
        raise Unusable("neither its sizes nor its parameters are given")
    if run.hidden:
        ffn = run.ffn_hidden or 4 * run.hidden
        layer = 4 * run.hidden**2 + (3 if gated else 2) * run.hidden * ffn
        return max(1, round((run.params_b * 1e9 - vocab * run.hidden) / layer)), run.hidden, ["layers, from the parameters"]
    if run.layers:
        return run.layers, round((run.params_b * 1e9 / run.layers / 12) ** 0.5 / 128) * 128, ["hidden, from the parameters"]
    return *_usual_shape(run.params_b, vocab), ["layers and hidden, from the parameters and a usual shape"]


def _from_preset(run: Run, preset: Transformer, seq_len: int) -> Transformer:
    """The preset with the layers, vocabulary and sequence length of the row."""
    changed = replace(preset, seq_len=seq_len, layers=run.layers or preset.layers, vocab=run.vocab or preset.vocab)
    if changed.experts is not None and changed.experts.first_dense >= changed.layers:
        return replace(changed, experts=replace(changed.experts, first_dense=max(0, changed.layers - 1)))
    return changed


def model_of(run: Run) -> tuple[Transformer, list[str]]:
    """(model, fields that the row does not give). Unusable where nothing is known of it."""
    family = first_match("families.csv", COLUMNS, run.model_family)
    if family is None:
        raise Unusable(f"the model family {run.model_family!r} is not known" if run.model_family else "the model is not named")
    if not family.text("gated"):
        raise Unusable(family.text("source"))
    if re.search(r"MoE|8x\d+B", run.model_family) and not run.moe_experts and not run.hidden:
        raise Unusable("a mixture of experts whose sizes are not given")
    flags = {flag: family.text(flag) == "y" for flag in FLAGS}
    length = sequence_length(run)
    preset = _preset(family.text("presets"), run.params_b)
    truncated = "truncated" in run.model_family
    if truncated or (preset is not None and (run.hidden is None or run.moe_experts)):
        preset = preset if not truncated else _whole(family.text("presets"), run.hidden)
        if preset is not None:
            model = _from_preset(run, preset, length or preset.seq_len)
            return replace(model, name=f"{run.model_family} ({preset.name})"), [] if run.hidden else [f"sizes, from {preset.name}"]
    if length is None:
        raise Unusable("the sequence length is not given")
    vocab = run.vocab or family.whole_or_none("vocab") or 50257
    layers, hidden, guessed = _shape(run, flags["gated"], vocab)
    heads = run.heads or max(1, hidden // 128)
    if run.vocab is None:
        guessed.append("vocabulary")
    if run.heads is None:
        guessed.append("heads of 128")
    ffn = run.ffn_hidden or (4 * hidden if not flags["gated"] else round(8 * hidden / 3 / 256) * 256)
    experts = None
    if run.moe_experts:
        experts = Experts(count=run.moe_experts, active=run.moe_topk or 1, ffn_hidden=ffn)
    model = Transformer(
        name=f"{run.model_family} {run.params_b or 0:g}B",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=run.kv_heads or heads,
        head_dim=max(1, hidden // heads),
        ffn_hidden=ffn,
        vocab=vocab,
        seq_len=length,
        experts=experts,
        source=run.evidence,
        **flags,
    )
    return model, guessed


def _whole(prefixes: str, hidden: int | None) -> Transformer | None:
    """The preset of the family with that hidden size, whatever its number of layers."""
    return next((model for model in _family_presets(prefixes) if model.hidden == hidden), None)
