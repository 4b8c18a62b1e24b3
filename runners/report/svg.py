"""matplotlib's SVG made fit to stand inside a page: ids of its own, no metadata, colours from CSS, a title for screen readers."""

from __future__ import annotations

import re
from html import escape

from .style import FAINT, INK, PALETTE

_COLOURS = {INK: "currentColor", FAINT: "var(--grid)", **{code: f"var(--{name})" for name, code in PALETTE.items()}}
_TAG = re.compile(r"<[^<>]*>")


def inline(document: str, prefix: str, title: str, description: str) -> str:
    """The ``<svg>`` element of a document, ready for HTML.

    Several in one page do not clash: each id begins with ``prefix``. Only tags are rewritten, never the text between them.
    """
    body = document[document.index("<svg") :]
    for element in ("metadata", "style"):
        body = re.sub(rf"<{element}\b.*?</{element}>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*</defs>", "", body)
    body = _TAG.sub(lambda tag: _rewritten(tag.group(), prefix), body)
    head, rest = body.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    name = f'<title id="{prefix}-title">{escape(title)}</title><desc id="{prefix}-desc">{escape(description)}</desc>'
    opening = f'<svg {view.group() if view else ""} role="img" aria-labelledby="{prefix}-title {prefix}-desc">'
    return re.sub(r">\s+<", "><", opening + name + rest).strip()


def _rewritten(tag: str, prefix: str) -> str:
    tag = re.sub(r"\bxlink:href=", "href=", tag)
    tag = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', tag)
    tag = re.sub(r'\bhref="#', f'href="#{prefix}-', tag)
    tag = tag.replace("url(#", f"url(#{prefix}-")
    for code, name in _COLOURS.items():
        tag = tag.replace(code, name)
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", tag)
