"""The rows that were measured here, as this repository keeps them: the folder ``results/<chip>/`` or files ``results/<chip>-<utc>.csv``."""

from __future__ import annotations

from functools import lru_cache

from chipassay.results.datafile import DATA
from chipassay.results.table import read_rows

from ..normalise import Chosen, choose

RESULTS = DATA.parent


@lru_cache(maxsize=4)
def own_rows(chip_id: str) -> Chosen | None:
    """What a profile of the chip is made of; None where nothing of it was measured here. Files are read in the order of their names."""
    files = [*sorted((RESULTS / chip_id).glob("*.csv")), *sorted(RESULTS.glob(f"{chip_id}-*.csv"))]
    rows = [row for file in files for row in read_rows(file)]
    return choose(rows, chip_id) if rows else None
