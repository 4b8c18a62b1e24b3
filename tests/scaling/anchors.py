"""Published runs as models and plans: the rows of anchors.csv."""

from __future__ import annotations

import csv
from pathlib import Path

from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import ATTENTIONS, RECOMPUTES, Plan

ANCHORS = tuple(csv.DictReader(Path(__file__).with_name("anchors.csv").open(newline="", encoding="utf-8")))


def _numbers(anchor: dict[str, str]) -> dict[str, int]:
    return {key: int(value) for key, value in anchor.items() if value.isdigit()}


def model_of(anchor: dict[str, str]) -> Transformer:
    number, gpt = _numbers(anchor), anchor["gated"] == "false"
    return Transformer(
        name=anchor["id"],
        head_dim=number["hidden"] // number["heads"],
        gated=not gpt,
        tied_embeddings=gpt,
        learned_positions=gpt,
        biases=gpt,
        dropout=anchor["attention"] == "unfused",
        **{key: number[key] for key in ("layers", "hidden", "heads", "kv_heads", "ffn_hidden", "vocab", "seq_len")},
    )


def plan_of(anchor: dict[str, str]) -> Plan:
    number = _numbers(anchor)
    return Plan(
        recompute=next(how for how in RECOMPUTES if how == anchor["recompute"]),
        attention=next(how for how in ATTENTIONS if how == anchor["attention"]),
        sequence_parallel=anchor["sequence_parallel"] == "true",
        overlap_dp=anchor["overlap_dp"] == "true",
        dtype=anchor["dtype"],
        **{key: number[key] for key in ("dp", "tp", "pp", "interleave", "microbatch", "global_batch", "zero_stage")},
    )
