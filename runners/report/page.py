"""The page: everything of this room put into one self-contained HTML file that opens without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import FileError
from chipassay.results.profile import Profile
from chipassay.results.schema import Row

from ..check.finding import Verdict
from . import facts, findings
from .draw import missing_library
from .grid import rows_block
from .headline import SHOWN_AT_MOST, headlines
from .pictures import picture, sections
from .sheets import sheets
from .summary import Summary
from .table import UNSURE, WIDE_SPREAD, tables
from .versus import Versus, versus
from .visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

    from chipassay.results.compare.comparison import Comparison

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("packed.js", "format.js", "cells.js", "grid.js")
CARDS_SHOWN = 8
"""Key figures above the headline table, which has them all."""


def write_report(
    rows: Sequence[Row],
    profile: Profile | None,
    summary: Summary | None,
    path: str | Path,
    *,
    comparisons: Sequence[Comparison] = (),
    verdict: Verdict | None = None,
) -> None:
    """Write the report of ``rows`` as one HTML file, with comparisons and the verdict of a check of these rows where there are any.

    Raises ChipassayError when the extra ``report`` is not installed, FileError when the file cannot be written.
    """
    text = render(rows, profile, summary, comparisons=comparisons, verdict=verdict)
    try:
        # A lone surrogate from a broken file name becomes a character reference instead of an error.
        Path(path).write_text(text, encoding="utf-8", errors="xmlcharrefreplace", newline="\n")
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror})", mend="give a path in a folder that exists") from error


def page_environment() -> Environment:
    """The templates of all pages: escaped, and strict about what is missing. Raises ChipassayError where jinja2 is."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise missing_library("jinja2") from error

    def final(value: object) -> object:
        # Names that a machine or another tool reports; Markup is of this room's own making.
        return visible(value) if type(value) is str else value

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=final,
    )


def render(
    rows: Sequence[Row],
    profile: Profile | None,
    summary: Summary | None,
    *,
    comparisons: Sequence[Comparison] = (),
    verdict: Verdict | None = None,
) -> str:
    """The report as text: the same input gives the same text."""
    environment = page_environment()
    from markupsafe import Markup

    style = (TEMPLATES / "style.css").read_text(encoding="utf-8").strip()
    code = script()
    shown: list[Versus] = [versus(comparison, number) for number, comparison in enumerate(comparisons, 1)]
    return environment.get_template("page.html.j2").render(
        **_of_rows(rows, profile, verdict),
        version=facts.chipassay_version(),
        summary=summary or Summary(),
        cards=(summary or Summary()).cards[:CARDS_SHOWN],
        comparisons=shown,
        profile=profile,
        wide_spread=WIDE_SPREAD,
        unsure=UNSURE,
        safe=Markup,
        style=Markup(style),
        script=Markup(code),
        script_hash=hash_source(code),
    )


def _of_rows(rows: Sequence[Row], profile: Profile | None, verdict: Verdict | None) -> dict[str, Any]:
    """What the template needs of the rows."""
    remarks = findings.remarks(rows, verdict)
    fallback = tables(rows)
    best = headlines(rows)
    return {
        "chips": facts.headers(rows),
        "total": len(rows),
        "statuses": facts.statuses(rows),
        "facts": facts.environment(rows),
        "verdict": verdict,
        "verdict_sentence": "" if verdict is None else findings.sentence(verdict),
        "row_findings": [] if verdict is None else findings.told(verdict),
        "headlines": best[:SHOWN_AT_MOST],
        "headlines_left_out": max(0, len(best) - SHOWN_AT_MOST),
        "sections": [(title, lead, [picture(plot) for plot in plots]) for title, lead, plots in sections(rows, profile)] if rows else [],
        "sheets": sheets(rows, profile),
        "tables": fallback,
        "left_out": sum(table.left_out for table in fallback),
        "rows_block": rows_block(rows, remarks) if rows else "",
    }


def script() -> str:
    """The page's one script: its files in order, in a room of their own."""
    parts = [(TEMPLATES / name).read_text(encoding="utf-8").strip() for name in SCRIPTS]
    return "\n".join(["(function () {", '"use strict";', *parts, "})();"])


def hash_source(text: str) -> str:
    """The content security policy's name for one inline script: no other script may run, not even one that got past escaping."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
