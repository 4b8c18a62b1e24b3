"""The rules of a check, read from TOML: data that names a quantity, an operator and words, and is never run as code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Any

from chipassay.results.errors import FileError, UnknownName

from .finding import SEVERITIES, Severity
from .quantities import QUANTITIES
from .quantity import COMMON_FIELDS, Quantity

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RULES_TOML = Path(__file__).with_name("rules.toml")
TEXTS = ("words", "cause", "mend")
FILTERS = ("ops", "kinds", "device_kinds", "dtypes", "backends")
"""Keys that narrow a rule to rows: operations, what limits them, kinds of device, dtypes, backends."""
KINDS = ("compute", "memory", "link", "overhead", "collective")
OPERATORS = ("above", "below", "missing", "all_of")
KEYS = ("id", "quantity", *OPERATORS, "share", "unless", "severity", *TEXTS, *FILTERS)
ALL_OF_FIELDS = (*COMMON_FIELDS, "share", "rows")
SEE = "see runners/check/README.md"


@dataclass(frozen=True)
class Rule:
    """One rule. Exactly one of three forms: a quantity ``above`` and/or ``below`` a limit, a quantity ``missing``, or ``all_of`` others."""

    id: str
    severity: Severity
    words: str
    cause: str = ""
    mend: str = ""
    quantity: Quantity | None = None
    above: float | None = None
    below: float | None = None
    missing: bool = False
    all_of: tuple[str, ...] = ()
    """Earlier rules, each of which must hold for ``share`` of the rows that it could judge."""
    share: float = 0.5
    unless: tuple[str, ...] = ()
    """Earlier rules: where one of them spoke, of the same row or the same chip, this one is silent."""
    only: Mapping[str, tuple[str, ...]] | None = None
    """Filter -> the values that it lets through."""

    def holds(self, value: float) -> bool:
        """Whether a value of the quantity breaks the rule."""
        return (self.above is None or value > self.above) and (self.below is None or value < self.below)


@lru_cache(maxsize=1)
def shipped_rules() -> tuple[Rule, ...]:
    """The rules of ``rules.toml``."""
    return _rules(RULES_TOML, _tables(RULES_TOML))


def load_rules(path: Path | None = None) -> tuple[Rule, ...]:
    """The shipped rules, with those of ``path`` added: one whose id is shipped changes only the keys it gives.

    Raises FileError, naming file and rule, for whatever is not understood: nothing is skipped.
    """
    if path is None:
        return shipped_rules()
    tables = {table["id"]: table for table in _tables(RULES_TOML)}
    for table in _tables(path):
        known = tables.get(table["id"])
        if known is not None and _form(known) != _form({**known, **table}):
            # Another operator stands in place of the shipped one, not beside it.
            known = {key: value for key, value in known.items() if key not in (*OPERATORS, "quantity", "share")}
        tables[table["id"]] = {**(known or {}), **table}
    return _rules(path, list(tables.values()))


def _form(table: Mapping[str, Any]) -> tuple[Any, ...]:
    return ("above" in table or "below" in table, "missing" in table, "all_of" in table, table.get("quantity"))


def _tables(path: Path) -> list[dict[str, Any]]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of a .toml with rules") from error
    except UnicodeDecodeError as error:
        raise FileError(path, "not UTF-8 text", mend=SEE) from error
    except tomllib.TOMLDecodeError as error:
        raise FileError(path, f"not TOML: {error}") from error
    unknown = set(data) - {"rule"}
    tables = data.get("rule", [])
    if unknown or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise FileError(path, f"holds {', '.join(sorted(unknown)) or 'rule'} where only [[rule]] belongs", mend=SEE)
    seen: set[str] = set()
    for position, table in enumerate(tables, start=1):
        name = table.get("id")
        if not isinstance(name, str) or not name:
            raise FileError(path, f"rule {position} has no id", mend='write id = "..."')
        if name in seen:
            raise FileError(path, f"rule {name!r} stands here twice", mend="keep one of them")
        seen.add(name)
        for key in table:
            if key not in KEYS:
                raise FileError(path, f"rule {name!r}: {UnknownName('key', key, KEYS)}", mend=SEE)
    return tables


def _rules(path: Path, tables: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
    found: dict[str, Rule] = {}
    for table in tables:
        try:
            found[table["id"]] = _rule(table, found)
        except (ValueError, UnknownName) as error:
            raise FileError(path, f"rule {table['id']!r}: {error}", mend=SEE) from error
    return tuple(found.values())


def _rule(table: Mapping[str, Any], earlier: Mapping[str, Rule]) -> Rule:
    severity = table.get("severity")
    if severity not in SEVERITIES:
        given = "no severity" if severity is None else f"severity is {severity!r}"
        raise ValueError(f"{given}; one of {', '.join(SEVERITIES)} (ok: the rule is off)")
    forms = [form for form, given in (("above or below", "above" in table or "below" in table), ("missing", "missing" in table)) if given]
    forms += ["all_of"] if "all_of" in table else []
    if len(forms) != 1:
        raise ValueError(f"has {' and '.join(forms) or 'no operator'}; it takes one of above/below, missing, all_of")
    if ("quantity" in table) == ("all_of" in table):
        raise ValueError("a quantity belongs to above, below and missing, and to them alone")
    if "share" in table and "all_of" not in table:
        raise ValueError("share belongs to all_of")
    if "missing" in table and table["missing"] is not True:
        raise ValueError('missing takes true and nothing else; leave the rule out, or write severity = "ok"')
    quantity = _quantity(table["quantity"]) if "quantity" in table else None
    if quantity is not None and quantity.scope == "machine" and any(key in table for key in FILTERS):
        raise ValueError(f"{quantity.name} is of the machine: it has no rows to choose by {', '.join(FILTERS)}")
    all_of, unless = _names(table, "all_of", earlier), _names(table, "unless", earlier)
    if "all_of" in table and not all_of:
        raise ValueError("all_of is empty")
    share = _number(table, "share")
    if share is not None and not 0 < share <= 1:
        raise ValueError("share must lie above 0 and be at most 1")
    return Rule(
        id=table["id"],
        severity=severity,
        quantity=quantity,
        above=_number(table, "above"),
        below=_number(table, "below"),
        missing="missing" in table,
        all_of=all_of,
        share=0.5 if share is None else share,
        unless=unless,
        only={key: _only(table, key) for key in FILTERS if key in table} or None,
        **{key: _text(table, key, _fields(quantity, "missing" in table)) for key in TEXTS},
    )


def _quantity(name: Any) -> Quantity:
    if name not in QUANTITIES:
        raise UnknownName("quantity", str(name), QUANTITIES)
    return QUANTITIES[name]


def _fields(quantity: Quantity | None, missing: bool) -> tuple[str, ...]:
    if quantity is None:
        return ALL_OF_FIELDS
    if missing:
        return ("chip",) if quantity.scope == "machine" else ("chip", "op", "dtype", "what")
    return quantity.all_fields


def _number(table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f"{key} is {value!r}; write a number")
    return float(value)


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = table.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise ValueError(f"{key} is {values!r}; write a list of texts")
    return tuple(values)


def _names(table: Mapping[str, Any], key: str, earlier: Mapping[str, Rule]) -> tuple[str, ...]:
    names = _strings(table, key)
    for name in names:
        if name not in earlier:
            raise ValueError(f"{key} names {name!r}, which is no earlier rule")
    return names


def _only(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _strings(table, key)
    if not values:
        raise ValueError(f"{key} is [], which lets no row through")
    if key == "kinds":
        for value in values:
            if value not in KINDS:
                raise UnknownName("kind", value, KINDS)
    return values


def _text(table: Mapping[str, Any], key: str, fields: Sequence[str]) -> str:
    """A text of which every ``$field`` is known. string.Template replaces names and does nothing else."""
    text = table.get(key, "")
    if not isinstance(text, str) or (key == "words" and not text.strip()):
        raise ValueError(f"{key} is {text!r}; write a text")
    for match in Template.pattern.finditer(text):
        name = match["named"] or match["braced"]
        if match["invalid"] is not None:
            raise ValueError(f"{key} has a $ that is no field; write $$ for the sign itself")
        if name is not None and name not in fields:
            raise UnknownName(f"field of {key}", f"${name}", [f"${field}" for field in fields])
    return " ".join(text.split())
