"""A scenario from TOML: a shipped one by its name, or any file by its path. Every field is checked before anything is worked out.

title = "..."
summary = "..."
as_of = "2023-05"               # software of then; chips of later are refused
prices_until = "2023-12"        # quotes of later are not used

[[run]]                         # tokens and batch that stand for a model
model = "gpt3-175b"
tokens = 300e9
batch = 1536
source = "..."

[[price]]                       # for a chip that nobody quotes
chip = "h800-sxm-80gb"
like = "h100-sxm-80gb"
why = "..."

[[question]]
id = "h800-for-h100"
kind = "exchange"               # a module in kinds/, whose FIELDS say what else it takes
claim = "..."
sources = ["..."]
measure = "H800 for one H100"
at_least = 3                    # the claim holds for values from here ...
at_most = 30                    # ... to here; without both the answer is a number
reading = "..."                 # how the claim's words became these limits and cases
answer = "One H100 does the work of $range H800."
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from chipassay.results.catalogue import find_chip
from chipassay.results.errors import FileError, InputError, UnknownName
from chipassay.scaling import __file__ as scaling_file
from chipassay.scaling.as_of import check_date, check_released
from chipassay.scaling.models import load_model

from .answer import check_words
from .fields import Field, fields_of
from .records import Limits, Question, Run, Scenario

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(scaling_file).parent / "scenarios"
KINDS = ("exchange", "train_time", "cluster", "link", "ways", "mix", "rent")

TOP = {
    "title": Field(str, '"..."'),
    "summary": Field(str, '"..."'),
    "as_of": Field(str, '"2023-05"', check=check_date),
    "prices_until": Field(str, '"2023-12"', check=check_date),
}
RUN = {
    "model": Field(str, '"gpt3-175b"', check=load_model),
    "tokens": Field(float, "300e9"),
    "batch": Field(int, "1536"),
    "source": Field(str, '"Brown et al. 2020, table 2.1"'),
}
PRICE = {
    "chip": Field(str, '"h800-sxm-80gb"', check=find_chip),
    "like": Field(str, '"h100-sxm-80gb"', check=find_chip),
    "why": Field(str, '"..."'),
}
COMMON = {
    "id": Field(str, '"h800-for-h100"'),
    "kind": Field(str, '"exchange"', choices=KINDS),
    "claim": Field(str, '"..."'),
    "sources": Field(str, '["..."]', many=True),
    "measure": Field(str, '"H800 for one H100"'),
    "at_least": Field(float, "3", any_number=True),
    "at_most": Field(float, "4", any_number=True),
    "reading": Field(str, '"three or more, at equal work per chip"'),
    "headline": Field(str, '"One H100 is worth $range H800"'),
    "answer": Field(str, '"One H100 does the work of $range H800."'),
}
NEEDED = ("id", "kind", "claim", "sources", "measure", "headline", "answer")


def shipped_names() -> tuple[str, ...]:
    """The names of the shipped scenarios."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def kind_module(kind: str) -> ModuleType:
    """The module that works out questions of a kind: ``FIELDS``, ``NEEDED`` and ``cases``."""
    return import_module(f"{__package__}.kinds.{kind}")


def load_scenario(name: str) -> Scenario:
    """The scenario of a name or a path.

    Raises UnknownName for a name that there is not, FileError, with file, question and field, for what cannot be used.
    """
    if name.endswith(".toml"):
        path = Path(name)
    elif name in shipped_names():
        path = SHIPPED / f"{name}.toml"
    else:
        raise UnknownName("scenario", name, shipped_names(), listed_by="chipassay scenario")
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(
            path, f"cannot be read ({error.strerror})", mend="give a name that `chipassay scenario` lists, or a .toml"
        ) from error
    except UnicodeDecodeError as error:
        raise FileError(path, "not text in UTF-8", mend="give the path of a scenario's .toml") from error
    except tomllib.TOMLDecodeError as error:
        raise FileError(path, f"not TOML ({error})") from error
    return _scenario(path, data)


def only(scenario: Scenario, ids: str | None) -> Scenario:
    """The scenario with these questions alone, joined by commas. Raises UnknownName for an id that it has not."""
    if ids is None:
        return scenario
    known = {question.id: question for question in scenario.questions}
    wanted = [name.strip() for name in ids.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise UnknownName("question", name, known)
    return replace(scenario, questions=tuple(known[name] for name in dict.fromkeys(wanted)))


def _scenario(path: Path, data: dict[str, Any]) -> Scenario:
    runs = _tables(path, data, "run") if "run" in data else []
    prices = _tables(path, data, "price") if "price" in data else []
    questions = _tables(path, data, "question")
    lists = {"run", "price", "question"}
    for key in data:
        if key not in TOP and key not in lists:
            raise FileError(path, str(UnknownName("field", key, [*TOP, *lists])))
    top = fields_of(path, "top", {key: value for key, value in data.items() if key not in lists}, TOP, ("title", "summary"))
    read_runs = [Run(**{"batch": None} | fields_of(path, "[[run]]", run, RUN, ("model", "tokens", "source"))) for run in runs]
    known: dict[str, Run] = {}
    for run in read_runs:
        if run.model in known:
            raise FileError(path, f"[[run]]: {run.model} stands there twice", mend="keep one run of each model")
        known[run.model] = run
    found: list[Question] = []
    for place, table in enumerate(questions, 1):
        question = _question(path, place, table, known, top.get("as_of"))
        if any(other.id == question.id for other in found):
            raise FileError(path, f"question {question.id} stands there twice", mend="give each its own id")
        found.append(question)
    return Scenario(
        name=path.stem,
        path=path,
        title=top["title"],
        summary=top["summary"],
        as_of=top.get("as_of"),
        prices_until=top.get("prices_until"),
        price_like={
            table["chip"]: (table["like"], table["why"])
            for table in (fields_of(path, "[[price]]", one, PRICE, tuple(PRICE)) for one in prices)
        },
        questions=tuple(found),
        runs=known,
    )


def _tables(path: Path, data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    tables = data.get(name)
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise FileError(path, f"there is no list of tables {name}", mend=f"write each under [[{name}]]")
    return tables


def _question(path: Path, place: int, table: Mapping[str, Any], runs: Mapping[str, Run], as_of: str | None) -> Question:
    where = f"question {table['id']}" if isinstance(table.get("id"), str) else f"question {place}"
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        fields_of(path, where, {name: value for name, value in table.items() if name in ("id", "kind")}, COMMON, ("kind",))
    module = kind_module(str(kind))
    given = fields_of(path, where, table, COMMON | module.FIELDS, NEEDED + module.NEEDED)
    common = {name: given.pop(name) for name in COMMON if name in given}
    limits = Limits(**{name: common[name] for name in ("at_least", "at_most") if name in common})
    if limits.at_least > limits.at_most:
        raise FileError(path, f"{where}: at_least {limits.at_least:g} is above at_most {limits.at_most:g}", mend="exchange them")
    for model in given.get("models", ()):
        if module.NEEDS_RUN and model not in runs:
            raise FileError(path, f"{where}: no [[run]] says over how many tokens {model} is trained", mend="add one, with its source")
    try:
        if as_of is not None:
            check_released(module.chips_of(given), as_of)
    except InputError as error:
        raise FileError(path, f"{where}: {error}") from error
    for name in ("headline", "answer"):
        try:
            check_words(common[name], module.WORDS, getattr(module, "MORE_WORDS", ()))
        except InputError as error:
            raise FileError(path, f"{where}: {name}: {error}") from error
    common = {"reading": ""} | {name: value for name, value in common.items() if name not in ("at_least", "at_most")}
    return Question(**common, limits=limits, options=given)
