"""Make the shipped profiles again from their sources: the rows and tables of this repository, and aiconfigurator-core."""

from __future__ import annotations

import argparse
import json
import sys
from functools import lru_cache
from pathlib import Path

from chipassay.results.errors import ChipassayError, InputError
from chipassay.results.profile import Profile, load_profile
from chipassay.results.shipped import PROFILES

from .build import build, recipe_of
from .fields import differing
from .lines import short_lines
from .products import corrections
from .recipes import RECIPES

SHOWN = 20
"""Differing fields of one chip that are printed."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m chipassay.runners.shipped", description=__doc__)
    made.add_argument("chips", nargs="*", metavar="CHIP", help="only these; their parents are read as they are (default: all)")
    made.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a profile would differ, and in which fields")
    made.add_argument("--out", type=Path, default=PROFILES, metavar="DIR", help="where the profiles are (default: results/profiles)")
    return made


def rebuild(chips: list[str], out: Path, check: bool) -> int:
    """Rebuild, and write or compare; how many profiles differ."""
    wanted = [recipe_of(chip_id) for chip_id in chips] if chips else list(RECIPES)
    wanted.sort(key=RECIPES.index)
    made: dict[str, Profile] = {}
    gap = lru_cache(maxsize=1)(corrections)

    def parent(chip_id: str) -> Profile:
        if chip_id in made:
            return made[chip_id]
        for folder in (out, PROFILES):
            if (folder / f"{chip_id}.json").exists():
                return load_profile(folder / f"{chip_id}.json")
        raise InputError(f"{out}: has no {chip_id}.json, from which others are derived; rebuild without naming chips")

    wrong = 0
    for recipe in wanted:
        profile = made[recipe.chip_id] = build(recipe, parent, gap)
        path = out / f"{recipe.chip_id}.json"
        if not check:
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(short_lines(profile.to_json()), encoding="utf-8")
            print(f"{recipe.chip_id}: written")
            continue
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        lines = differing(old, json.loads(profile.to_json()))
        print(f"{recipe.chip_id}: {f'{len(lines)} fields differ' if lines else 'as it is'}")
        print("".join(f"  {line}\n" for line in lines[:SHOWN]), end="")
        wrong += bool(lines)
    return wrong


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 fine, 1 a profile differs, 2 a source is missing."""
    arguments = parser().parse_args(argv)
    try:
        return 1 if rebuild(arguments.chips, arguments.out, arguments.check) else 0
    except ChipassayError as error:
        print(f"chipassay.runners.shipped: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
