"""A plan as the command line writes it: ``tp=8,pp=2,dp=4,microbatch=1,zero=1,recompute=full``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from chipassay.results.errors import InputError, UnknownName

from .legal import CHOICES
from .plan import Plan

SHORT = {
    "zero": "zero_stage", "sp": "sequence_parallel", "mbs": "microbatch", "vpp": "interleave", "etp": "expert_tp", "hsdp": "shard",
}  # fmt: skip
"""The field's usual abbreviations."""
FLAGS = tuple(field.name for field in fields(Plan) if field.type == "bool")
WORDS = ("dtype", "order")
MOST = 10**9
"""Products of two such numbers are still whole numbers of 64 bits."""


def parse_plan(text: str, global_batch: int) -> Plan:
    """The plan that ``text`` names, for a global batch of so many sequences. What is not named keeps its default.

    Raises UnknownName for a field that plans do not have, InputError for a value that it cannot hold.

    >>> parse_plan("tp=8, zero=1, sp=yes", 64).describe()
    'tp8 pp1 dp1, microbatch 1 of 64, ZeRO-1, recompute none, sequence parallel'
    """
    known = {field.name for field in fields(Plan)} - {"global_batch"}
    given: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise InputError(f"plan {text!r}: {part!r} is not NAME=VALUE; write for example tp=8,pp=2,dp=4")
        name = SHORT.get(name, name)
        if name not in known:
            raise UnknownName("plan field", name, known | set(SHORT))
        if name in given:
            raise InputError(f"plan {text!r}: {name} is given twice; leave one of them out")
        given[name] = _value(name, value)
    return Plan(global_batch=global_batch, **given)


def write_plan(plan: Plan) -> str:
    """The text that ``parse_plan`` reads as this plan; what is at its default is left out, but for the three usual degrees.

    >>> write_plan(Plan(global_batch=64, tp=8, zero_stage=1, sequence_parallel=True))
    'dp=1,tp=8,pp=1,zero=1,sp=yes'
    """
    short = {name: abbreviation for abbreviation, name in SHORT.items()}
    told = []
    for field in fields(Plan):
        value = getattr(plan, field.name)
        if field.name != "global_batch" and (field.name in ("dp", "tp", "pp") or value != field.default):
            text = {True: "yes", False: "no"}[value] if field.name in FLAGS else str(value)
            told.append(f"{short.get(field.name, field.name)}={text}")
    return ",".join(told)


def _value(name: str, text: str) -> Any:
    if name in CHOICES:
        if text not in CHOICES[name]:
            raise InputError(f"plan field {name}: {text!r} is not one of {', '.join(CHOICES[name])}")
        return text
    if name in FLAGS:
        if text not in ("yes", "no"):
            raise InputError(f"plan field {name}: {text!r} is neither yes nor no")
        return text == "yes"
    if name in WORDS:
        return text
    if name == "recompute_share":
        try:
            return float(text)
        except ValueError:
            raise InputError(f"plan field {name}: {text!r} is not a share such as 0.5") from None
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"plan field {name}: {text!r} is not a whole number of 0 or more")
    if float(text) > MOST:
        raise InputError(f"plan field {name}: {text} is more than any plan has; write at most {MOST:,}")
    return int(text)
