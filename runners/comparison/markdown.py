"""A comparison as a comment on a pull request: the verdict first, tables after it, long lists folded away."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from chipassay.results.safe_text import printable

from .view import Section, View

COMMENT_LIMIT = 65_536
"""Characters of a GitHub comment (the API: "body is too long (maximum is 65536 characters)")."""
CELL_LIMIT = 300
FOLDED_FROM = 5
"""Lines from which on a table of single rows is folded."""
SPECIAL = re.compile(r"([\\`*_\[\]~!|])")
LINKING = re.compile(r"(@|#|://|\bwww(?=\.)|\bGH(?=-\d))")
"""What GitHub makes a mention, a reference or a link of, even where Markdown's own escapes are used."""
SPLIT = "&#8203;"
"""A space without width: the text looks the same and links nothing."""


def escaped(text: str, limit: int | None = CELL_LIMIT) -> str:
    """Untrusted text as plain words in a cell: no table border, HTML, code, emphasis, link, mention or reference.

    >>> escaped("a|b <i> `c` @me #1")
    'a\\\\|b &lt;i&gt; \\\\`c\\\\` @&#8203;me #&#8203;1'
    """
    text = printable(text, limit)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # After the entities, whose own # must stay whole.
    text = SPECIAL.sub(r"\\\1", text)
    return LINKING.sub(rf"\1{SPLIT}", text)


def markdown(make: Callable[[int], Sequence[View]], top: int) -> str:
    """The comment, with as many single rows as fit. ``make``: the views with so many worst and best rows each."""
    while True:
        text = "\n".join(line for view in make(top) for line in _lines(view))
        if len(text) < COMMENT_LIMIT or not top:
            break
        top //= 2
    if len(text) < COMMENT_LIMIT:
        return text
    # Many sides, or thousands of operations: the verdicts alone.
    lines = [line for view in make(0) for line in (*_verdict(view), "")]
    kept: list[str] = []
    left = COMMENT_LIMIT - 200
    for line in lines:
        left -= len(line) + 1
        if left < 0:
            return "\n".join([*kept, "More does not fit into a comment; `--format csv` has all.", ""])
        kept.append(line)
    return "\n".join(kept)


def _verdict(view: View) -> list[str]:
    gate = f"**{escaped(view.gate)}** " if view.gate else ""
    return [f"{gate}{escaped(view.closing, None)}"]


def _lines(view: View) -> list[str]:
    lines = [*_verdict(view), "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {escaped(words)} |" for name, words in view.head]
    lines += ["", *_section(view.summary, folded=len(view.summary.lines) > FOLDED_FROM)]
    for section in view.rows:
        lines += _section(section, folded=len(section.lines) > FOLDED_FROM)
    for section in view.others:
        lines += _section(section, folded=True)
    for note in view.notes:
        lines += [f"> {escaped(note)}", ""]
    return lines


def _section(section: Section, folded: bool) -> list[str]:
    if not section.lines:
        return []
    rule = ["---:" if index in section.numeric else "---" for index in range(len(section.headings))]
    table = [f"| {' | '.join(section.headings)} |", f"| {' | '.join(rule)} |"]
    table += [f"| {' | '.join(map(escaped, line))} |" for line in section.lines]
    table += ["", escaped(section.more)] if section.more else []
    title = escaped(section.title)
    if folded:
        # GitHub reads Markdown inside HTML only after an empty line.
        return ["<details>", f"<summary>{title}</summary>", "", *table, "", "</details>", ""]
    return [f"**{title}**", "", *table, ""]
