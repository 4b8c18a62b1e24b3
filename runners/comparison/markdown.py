"""A comparison as a comment on a pull request: the verdict first, tables after it, long lists folded away."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from chipassay.results.safe_text import printable

from .view import Section, View

COMMENT_LIMIT = 65_536
"""Characters of a GitHub comment (the API: "body is too long (maximum is 65536 characters)")."""
LEAST_LINE = 20
"""Characters that a line of a table takes at least."""
CELL_LIMIT = 300
FOLDED_FROM = 5
"""Lines from which on a table of single rows is folded."""
SPECIAL = re.compile(r"([\\`*_\[\]~!|])")
DOLLAR = "<span>$</span>"
"""As GitHub's docs write one that opens no formula ("Writing mathematical expressions")."""
LINKING = re.compile(r"(@|#|://|\bwww(?=\.)|\bGH(?=-\d))")
"""What GitHub makes a mention, a reference or a link of, even where Markdown's own escapes are used."""
SPLIT = "&#8203;"
"""A space without width: the text looks the same and links nothing."""


def escaped(text: str, limit: int | None = CELL_LIMIT) -> str:
    """Untrusted text as plain words in a cell: no table border, HTML, code, emphasis, formula, link, mention or
    reference.

    >>> escaped("a|b <i> `c` @me #1 $x$")
    'a\\\\|b &lt;i&gt; \\\\`c\\\\` @&#8203;me #&#8203;1 <span>$</span>x<span>$</span>'
    """
    text = printable(text, limit)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # After the entities, whose own # must stay whole.
    text = SPECIAL.sub(r"\\\1", text)
    return LINKING.sub(rf"\1{SPLIT}", text).replace("$", DOLLAR)


def markdown(views: Sequence[View]) -> str:
    """The comment, with as many lines of each table as fit; where even none do (many sides), the verdicts alone."""
    most = COMMENT_LIMIT // (LEAST_LINE * max(1, len(views)))
    while True:
        text = "\n".join(line for view in views for line in _lines(view, most))
        if len(text) < COMMENT_LIMIT:
            return text
        if not most:
            return _verdicts(views)
        most //= 2


def _verdicts(views: Sequence[View]) -> str:
    end = "More does not fit into a comment; `--format csv` has all.\n"
    kept: list[str] = []
    left = COMMENT_LIMIT - len(end) - 1
    for view in views:
        line = f"{_verdict(view)}\n\n"
        left -= len(line)
        if left < 0:
            break
        kept.append(line)
    return "".join(kept) + end


def _verdict(view: View) -> str:
    gate = f"**{escaped(view.gate)}** " if view.gate else ""
    return f"{gate}{escaped(view.closing, None)}"


def _sections(view: View) -> tuple[Section, ...]:
    return (view.summary, *view.rows, *view.others)


def _lines(view: View, most: int) -> list[str]:
    lines = [_verdict(view), "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {escaped(words)} |" for name, words in view.head]
    lines.append("")
    for section in _sections(view):
        lines += _section(section.cut(most), folded=section in view.others or len(section.lines) > FOLDED_FROM)
    for note in view.notes:
        lines += [f"> {escaped(note)}", ""]
    return lines


def _section(section: Section, folded: bool) -> list[str]:
    if not section.lines and not section.total:
        return []
    rule = ["---:" if index in section.numeric else "---" for index in range(len(section.headings))]
    table = [f"| {' | '.join(section.headings)} |", f"| {' | '.join(rule)} |"]
    table += [f"| {' | '.join(map(escaped, line))} |" for line in section.lines]
    table += ["", escaped(section.more)] if section.more else []
    if folded:
        # GitHub reads Markdown inside HTML only after an empty line.
        return ["<details>", f"<summary>{html.escape(section.title)}</summary>", "", *table, "", "</details>", ""]
    return [f"**{escaped(section.title)}**", "", *table, ""]
