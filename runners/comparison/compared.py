"""Sides read and compared: what the command and whoever else holds files against each other calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from chipassay.results.compare.comparison import Comparison, Settings
from chipassay.results.errors import UnknownName

from .sides import Files, files_of, read_side

if TYPE_CHECKING:
    from chipassay.results.compare.columns import Columns


def compare_sides(texts: Sequence[str], settings: Settings, only: Sequence[str] = ()) -> list[Comparison]:
    """Each side after the first compared with the first. ``only``: operations; all of them where it is empty.

    Raises FileError, InputError, and UnknownName for an operation that no side has.
    """
    from chipassay.results.compare.compare import compare

    files = [files_of(text) for text in texts]
    sides = [read_side(one) for one in files]
    if only:
        known = {str(op) for columns, _ in sides for op in columns.frame["op"].unique()}
        for op in only:
            if op not in known:
                raise UnknownName("op", op, known)
        sides = [(of_ops(columns, only), notes) for columns, notes in sides]
    (base, base_notes), *others = sides
    found = []
    for own, (new, notes) in zip(files[1:], others, strict=True):
        comparison = compare(base, new, settings)
        found.append(
            replace(
                comparison,
                base=replace(comparison.base, name=files[0].name),
                new=replace(comparison.new, name=own.name),
                notes=(*comparison.notes, *_same_files(files[0], own), *base_notes, *notes),
            )
        )
    return found


def of_ops(columns: Columns, ops: Sequence[str]) -> Columns:
    """The rows of some operations, with their samples."""
    import numpy as np

    chosen = columns.frame["op"].isin(ops).to_numpy(dtype=bool)
    counts = np.diff(columns.starts)
    return replace(
        columns,
        frame=columns.frame[chosen].reset_index(drop=True),
        samples_s=columns.samples_s[np.repeat(chosen, counts)],
        starts=np.concatenate([[0], np.cumsum(counts[chosen])]).astype(np.int64),
    )


def _same_files(base: Files, new: Files) -> list[str]:
    """A gate that holds a file against itself passes for ever."""
    both = {path.resolve() for path in base.paths} & {path.resolve() for path in new.paths}
    if not both:
        return []
    return [f"On both sides, so no news: {', '.join(sorted(path.name for path in both)[:3])}{', ...' if len(both) > 3 else ''}."]
