"""A comparison as one self-contained HTML page: the report's, with nothing in it but the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chipassay.results.compare.comparison import Comparison


def write_html(comparisons: Sequence[Comparison], path: Path) -> None:
    """Raises ChipassayError when the extra ``report`` is not installed, FileError when the file cannot be written."""
    from ..report import write_report

    write_report((), None, None, path, comparisons=comparisons)
