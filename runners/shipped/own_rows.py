"""The rows that were measured here, as this repository keeps them: the folder ``results/<chip>/`` or files ``results/<chip>-<utc>.csv``.

A folder within that of a chip holds another machine's rows. Rates of two machines are not mixed in one profile; only what the first did not
measure is taken from the others.
"""

from __future__ import annotations

from functools import lru_cache

from chipassay.results.datafile import DATA
from chipassay.results.profile import Quantity
from chipassay.results.table import read_rows

from ..normalise import Chosen, choose
from ..normalise_facts import sustained_power

RESULTS = DATA.parent


@lru_cache(maxsize=4)
def own_rows(chip_id: str) -> Chosen | None:
    """What a profile of the chip is made of; None where nothing of it was measured here. Files are read in the order of their names."""
    files = [*sorted((RESULTS / chip_id).glob("*.csv")), *sorted(RESULTS.glob(f"{chip_id}-*.csv"))]
    rows = [row for file in files for row in read_rows(file)]
    return choose(rows, chip_id) if rows else None


def own_sustained_power(chip_id: str) -> dict[str, Quantity]:
    """Operation and dtype -> watts of a sustained run on another machine than the one whose rates the profile has; empty: none."""
    files = sorted((RESULTS / chip_id).glob("*/sustained.csv"))
    return sustained_power([row for file in files for row in read_rows(file) if row.status == "ok"])
