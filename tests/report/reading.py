"""A reader of finished pages: what a browser would take from them."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags, ids, what would be fetched, and the text of each element kind."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.body_rows = 0
        """Rows of the plain tables that stand in for the big one where scripts do not run."""
        self.scripts = 0
        """Scripts that would run: a block of data does not."""
        self.headings: list[int] = []
        self.blocks: dict[str, str] = {}
        """The text of each block of data by its id."""
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self._block: str | None = None
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag == "tr" and {"tbody", "details", "noscript"} <= set(self.open):
            self.body_rows += 1
        if tag == "script" and dict(attrs).get("type") == "application/json":
            self._block = dict(attrs)["id"] or ""
        elif tag == "script":
            self.scripts += 1
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            value = value or ""
            if name == "id":
                self.ids.append(value)
            if name.startswith("on"):
                self.handlers.append(value)
            if name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
                self.targets.append(value)
            self.references += [part.split(")")[0].strip("#") for part in value.split("url(")[1:]]
            if name == "aria-labelledby":
                self.references += value.split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()
        self._block = None if tag == "script" else self._block

    def handle_data(self, data: str) -> None:
        if self._block is not None:
            self.blocks[self._block] = self.blocks.get(self._block, "") + data
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    def says(self, sentence: str) -> bool:
        """Whether the visible text holds the sentence."""
        return sentence in " ".join("".join(self.text).split())
