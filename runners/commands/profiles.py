"""What every chip is really worth: the list, one chip, two side by side.

  chipassay profiles                         the chips, each figure with its share of the dense datasheet peak
  chipassay profiles show ID                 one chip: every figure with its evidence, and what is unknown
  chipassay profiles diff A B                two chips: where B is A's equal, where not, by how much

ID is a chip of the list or a profile .json that `chipassay profile` wrote.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chipassay.results.errors import FileError, InputError

from ..say import say

if TYPE_CHECKING:
    from chipassay.results.profile import Profile

HELP = "what the chips are worth: list, show one, hold two side by side"
PICTURES = (".png", ".svg", ".html", ".htm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("asked", nargs="*", metavar="list | show ID | diff A B", help="default: list; a chip alone is shown")
    parser.add_argument("--all", action="store_true", help="list: also the chips without a profile of their own, by their datasheets")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="show, diff: draw it, too: .png, .svg, or .html with the tables")
    parser.add_argument("--format", choices=("table", "markdown"), default="table", help="default: table")


def execute(arguments: argparse.Namespace) -> int:
    what, names = _asked(arguments.asked)
    if arguments.picture is not None and (what == "list" or arguments.picture.suffix.lower() not in PICTURES):
        if what == "list":
            raise InputError("--picture draws one chip or two: chipassay profiles show ID --picture FILE.png")
        raise FileError(arguments.picture, "is neither .png, .svg nor .html", mend="name the picture FILE.png, FILE.svg or FILE.html")
    if what == "list":
        return _list(arguments)
    profiles = [find(name) for name in names]
    return _show(profiles[0], arguments) if what == "show" else _diff(profiles[0], profiles[1], arguments)


def _asked(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """(``list``, ``show`` or ``diff``, the names after it); a name alone is shown."""
    if not words:
        return "list", ()
    what, names = (words[0], words[1:]) if words[0] in ("list", "show", "diff") else ("show", words)
    wanted = {"list": 0, "show": 1, "diff": 2}[what]
    if len(names) != wanted:
        usage = {"list": "list", "show": "show ID", "diff": "diff A B"}[what]
        told = {0: "no name", 1: "one name", 2: "two names"}[wanted]
        raise InputError(f"profiles {what} takes {told}, not {len(names)}; write: chipassay profiles {usage}")
    return what, names


def find(name: str) -> Profile:
    """The profile of a chip id, or of a file that ends in .json.

    Raises UnknownName with the nearest ids, and FileError for a file that is not a profile of this version.
    """
    from chipassay.results.catalogue import load_chips
    from chipassay.results.errors import UnknownName
    from chipassay.results.profile import load_profile
    from chipassay.results.shipped import find_profile

    if name.lower().endswith(".json"):
        return load_profile(name)
    try:
        return find_profile(name)
    except UnknownName as error:
        if "/" in name or Path(name).exists():
            raise FileError(name, "is no profile .json", mend="make one with `chipassay profile FILE.csv -o PROFILE.json`") from error
        if not error.nearest:
            raise UnknownName("chip", name, load_chips(), listed_by="chipassay profiles --all") from error
        raise


def _list(arguments: argparse.Namespace) -> int:
    from chipassay.results.catalogue import load_chips
    from chipassay.results.shipped import find_profile, shipped_ids

    from ..profile_text import markdown, text, wrapped
    from ..profile_words import LIST_LEGEND, list_table

    shipped = shipped_ids()
    others = [chip_id for chip_id in load_chips() if chip_id not in shipped]
    profiles = [find_profile(chip_id) for chip_id in (*shipped, *(others if arguments.all else ()))]
    if arguments.json:
        print(json.dumps({profile.chip_id: _entry(profile, profile.chip_id in shipped) for profile in profiles}))
        return 0
    table = list_table(profiles)
    lines = markdown(table) if arguments.format == "markdown" else text(table)
    say(*lines, "", *wrapped(LIST_LEGEND))
    if not arguments.all:
        more = f"{len(others)} more chips have no profile of their own but figures made from published ones and datasheets"
        say(*wrapped(f"{more}: --all lists them."))
    return 0


def _entry(profile: Profile, shipped: bool) -> dict[str, object]:
    from chipassay.results.coverage import coverage
    from chipassay.results.profile_diff import as_dict

    from ..profile_words import date_of, headline

    line = headline(profile)
    return {
        "name": profile.name,
        "shipped": shipped,
        "dtype_16_bit": line.dtype,
        "coverage": dict(coverage(profile)),
        "date": date_of(profile),
        "figures": {
            "matmul_16_bit": as_dict(line.sixteen_bit),
            "matmul_fp8": as_dict(line.fp8),
            "memory": as_dict(line.memory),
            "all_reduce_8": as_dict(line.busbw_8),
        },
        "peak_flops_per_s": {dtype: peak.value for dtype, peak in profile.peak_flops_per_s.items()},
    }


def _show(profile: Profile, arguments: argparse.Namespace) -> int:
    from ..profile_text import markdown, text, wrapped
    from ..profile_words import bar, beside_table, coverage_words, held_out_table, show_tables

    tables, missing, sources = show_tables(profile)
    tested = held_out_table(profile)
    tables += [table for table in (tested, beside_table(profile)) if table is not None]
    if arguments.picture is not None:
        _draw_one(profile, arguments.picture)
    if arguments.json:
        print(profile.to_json(), end="")
        return 0
    if arguments.format == "markdown":
        lines = [
            f"# {profile.name} (`{profile.chip_id}`)",
            "",
            coverage_words(profile),
            *(line for table in tables for line in markdown(table)),
        ]
        lines += ["", "**unknown**", "", *(f"- {line}" for line in missing), "", "**sources**", "", *(f"- {line}" for line in sources)]
    else:
        lines = [f"{profile.name} ({profile.chip_id})  [{bar(profile)}]", coverage_words(profile)]
        lines += [line for table in tables for line in text(table)]
        for heading, notes in (("unknown", missing), ("sources", sources)):
            lines += ["", heading, *(part for line in notes or ["none"] for part in wrapped(line, indent=2))]
    say(*lines, *([] if arguments.picture is None else ["", f"drawn: {arguments.picture}"]))
    return 0


def _diff(a: Profile, b: Profile, arguments: argparse.Namespace) -> int:
    from chipassay.results.profile_diff import differences

    from ..profile_text import markdown, text, wrapped
    from ..profile_words import VERDICTS_LEGEND, closing, diff_tables

    found = differences(a, b)
    if arguments.picture is not None:
        _draw_two(a, b, arguments.picture)
    if arguments.json:
        sides = {side: {"chip_id": one.chip_id, "name": one.name} for side, one in (("a", a), ("b", b))}
        print(json.dumps({**sides, "summary": closing(a, b, found), "differences": [one.to_dict() for one in found]}))
        return 0
    tables = diff_tables(found)
    if arguments.format == "markdown":
        lines = [f"**{closing(a, b, found)}**", "", f"A: {a.name} (`{a.chip_id}`), B: {b.name} (`{b.chip_id}`)"]
        lines += [line for table in tables for line in markdown(table)]
    else:
        lines = [f"A: {a.name} ({a.chip_id})", f"B: {b.name} ({b.chip_id})", *(line for table in tables for line in text(table))]
        lines += ["", *wrapped(VERDICTS_LEGEND), "", *wrapped(closing(a, b, found))]
    say(*lines, *([] if arguments.picture is None else ["", f"drawn: {arguments.picture}"]))
    return 0


def _draw_one(profile: Profile, path: Path) -> None:
    from ..report.profile_page import write_one

    write_one(profile, path)


def _draw_two(a: Profile, b: Profile, path: Path) -> None:
    from ..report.profile_page import write_two

    write_two(a, b, path)
