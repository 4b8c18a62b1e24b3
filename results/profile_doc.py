"""The profile's format, field by field: ``python -m chipassay.results.profile_doc > results/PROFILE.md``.

The text of a field is the string under it where its dataclass is written; what needs none there has it in OTHERS.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any

from .evidence import LEVELS, Evidence
from .link import Link, Load, Overlap, Segment
from .profile import PROFILE_VERSION, Curve, Profile, Quantity
from .shape_models.attention import AttentionModel
from .shape_models.product import HeldOut, ProductModel, Tile

RECORDS: tuple[type, ...] = (
    *(Profile, Evidence, Quantity, Curve, ProductModel, Tile, AttentionModel, HeldOut, Link, Segment, Load, Overlap),
)

FITTED = {
    "evidence": "where the numbers come from",
    "points": "how many measurements were fitted; 0: none, or nobody told",
    "spread": "standard deviation of the log residuals; null: not enough points",
    "held_out": "the error on shapes that the fit did not see; null: not tested",
    "fitted_range": "name of a dimension -> smallest and largest that was fitted; outside it the model extrapolates",
}
"""What the records of fits share."""

OTHERS = {
    "Profile.chip_id": "id in the catalogue of chips, or one made from the device's name",
    "Profile.name": "the name for people",
    "Profile.loads": "collectives while like groups run them at the same time on other chips",
    "Profile.links": "collectives by pattern, transport, group size and placement",
    "Profile.overlaps": "a collective and a matrix product at the same time on the same chips",
    "Profile.peak_bandwidth_bytes_per_s": "datasheet bandwidth of the memory",
    "Profile.memory_bytes": "memory of one chip",
    "Profile.power_w": "datasheet limit of the board",
    "Profile.version": f"version of this format: {PROFILE_VERSION}; others are refused",
    "Evidence.level": f"{', '.join(f'`{level}`' for level in LEVELS)}, strongest first",
    "Evidence.source": "where it was read or measured, or what it was derived from and how",
    "Evidence.date": "ISO 8601; null: not told",
    "Quantity.value": "in the unit that the field which holds it is named by",
    "Curve.overhead_s": "what no work takes",
    "Curve.rate": "FLOPs or bytes a second that large work approaches",
    "Curve.work_min": "smallest work that was fitted",
    "Curve.work_max": "largest work that was fitted",
    "ProductModel.rate_flops_per_s": "of the whole chip, in deep tiles that fill it",
    "ProductModel.bandwidth_bytes_per_s": "of the whole chip, for operands and product",
    "ProductModel.launch_s": "what a product of no size takes",
    "ProductModel.element_bytes": "of one operand's element",
    "ProductModel.output_bytes": "of the product's element",
    "ProductModel.multiprocessors": "tiles that are computed at once",
    "ProductModel.tiles": "the tiles that kernels of this chip use; empty: no tile or wave quantisation",
    "ProductModel.splits": "into how many parts k may be cut",
    "ProductModel.slowdown_after_s": "the time after which half of the slowdown has set in",
    "ProductModel.quantise_s": "where a time includes converting A: each call",
    "ProductModel.quantise_s_per_byte": "each element of A",
    "ProductModel.layouts": "layout (`nn`, `tn`) -> its time over that of `nt`",
    "Tile.rows": "of C",
    "Tile.columns": "of C",
    "HeldOut.median": "median of the error",
    "HeldOut.p90": "its 90th percentile",
    "HeldOut.points": "shapes that were predicted unseen",
    "AttentionModel.bandwidth_bytes_per_s": "of the whole chip, for Q, K, V and the output",
    "AttentionModel.launch_s": "what attention of no size takes",
    "AttentionModel.output_bytes": "of one element of the output",
    "AttentionModel.multiprocessors": "tiles of queries that are computed at once",
    "AttentionModel.slowdown_after_s": "the time after which half of the slowdown has set in",
    "Link.pattern": "`all_reduce`, `all_gather`, ...",
    "Link.transport": "what carried it: `nccl`, `gloo`, `NVLink4`, ...",
    "Link.group_size": "ranks",
    "Link.latency_s": "of large messages",
    "Link.busbw_bytes_per_s": "bus bandwidth that large messages approach",
    "Link.segments": "lines that hold from one message size to the next, where the protocol changes; empty: one line, without its errors",
    "Link.first_bytes": "smallest message that was measured",
    "Segment.latency_s": "where the line meets size 0",
    "Segment.busbw_bytes_per_s": "bus bandwidth of the line",
    "Segment.latency_error_s": "standard error; null: nobody told",
    "Segment.correlation": "between the two errors",
    "Load.pattern": "the collective",
    "Load.transport": "what carried it",
    "Load.group_size": "ranks of a group",
    "Load.placement": "`inside` one node or `across` nodes",
    "Load.slowdown_low": "lower end of the 95 % interval",
    "Load.slowdown_high": "upper end of the 95 % interval",
    "Overlap.pattern": "the collective",
    "Overlap.transport": "what carried it",
    "Overlap.group_size": "ranks",
    "Overlap.size_bytes": "the message",
}


@cache
def strings_under_fields(record: type) -> dict[str, str]:
    """Field -> the string that follows it in the source of its dataclass."""
    found: dict[str, str] = {}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(definition, ast.ClassDef)
    for before, after in zip(definition.body, definition.body[1:], strict=False):
        if not (isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr)):
            continue
        if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            found[before.target.id] = after.value.value
    return found


def meaning(record: type, name: str) -> str:
    """What a field means; empty where nobody wrote it."""
    text = strings_under_fields(record).get(name) or OTHERS.get(f"{record.__name__}.{name}") or FITTED.get(name, "")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def markdown() -> str:
    """The document, as kept in ``results/PROFILE.md``."""
    lines = [
        "# The profile",
        "",
        f"Version {PROFILE_VERSION}. Generated from `results/profile.py` and the records it is made of; do not edit by hand.",
        "",
        "One JSON object is one chip. Units are in the names of the fields, all of them SI; rates are FLOPs or bytes a second of one chip. "
        "A key that is absent from a mapping, and null, are unknown. Keys are sorted and one number stands in a line, so that two profiles "
        "can be compared by `diff`; `chipassay profiles diff A B` compares what they say. Read one with `results.profile.load_profile`, or "
        "with any JSON library: no torch is needed.",
    ]
    for record in RECORDS:
        lines += ["", f"## {record.__name__}", "", _words(inspect.getdoc(record) or "", tables=False), ""]
        lines += ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{f.name}` | {_type(f)} | {_default(f)} | {_words(meaning(record, f.name)).removesuffix('.')} |" for f in fields(record)
        ]
    return "\n".join(lines) + "\n"


def _words(text: str, tables: bool = True) -> str:
    """One line of Markdown: examples are left out, names in double backticks get one; ``|`` is escaped where it would end a cell."""
    prose = text.split(">>>")[0]
    line = " ".join(prose.replace("``", "`").split())
    return line.replace("|", "\\|") if tables else line


def _type(f: Field[Any]) -> str:
    """The annotation as JSON has it."""
    text = str(f.type)
    for python, plain in (("tuple[", "list["), ("Mapping[str, ", "object["), (", ...]", "]"), ("None", "null"), ("float", "number")):
        text = text.replace(python, plain)
    text = text.replace("bool", "true or false")
    return text.replace("|", "or").replace("str", "text").replace("int", "whole number").replace("Level", "text")


def _default(f: Field[Any]) -> str:
    if f.default is MISSING:
        return "" if f.default_factory is MISSING else "empty"
    if f.default is None:
        return "null"
    return "empty" if f.default in ((), "") else f"`{json.dumps(f.default)}`"


if __name__ == "__main__":
    print(markdown(), end="")
