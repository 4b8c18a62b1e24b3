"""The raw samples that nvbench writes beside its JSON (--jsonbin): little-endian float32, times in one file, clocks in another."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chipassay.results.schema import SAMPLES_KEPT

from .source import integer, listing, mapping, string
from .unmapped import Unmapped

TIMES = "nv/json/bin:"
CLOCKS = "nv/json/freqs-bin:"
MOST_SAMPLES = 2**26
"""A quarter of a gigabyte; nvbench stops long before."""


def sample_columns(path: Path, state: Mapping[str, Any], where: str, unmapped: Unmapped) -> dict[str, Any]:
    """Median, percentiles and kept samples of a case's cold calls; nothing where there is no file of them, or it does not hold together.

    ``path``: the JSON's; samples are looked for below its folder only.
    """
    times_s = _samples(path, state, TIMES, where, unmapped)
    if not times_s:
        return {}
    from chipassay.runners.timing.columns import time_columns
    from chipassay.runners.timing.statistics import thin

    if min(times_s) <= 0:
        unmapped.add("files of samples that are not all above 0", where)
        return {}
    clocks_hz = _samples(path, state, CLOCKS, where, unmapped)
    columns = {**time_columns(times_s), "time_statistic": None, "sample_count": len(times_s)}
    if clocks_hz and len(clocks_hz) == len(times_s):
        columns["sample_clocks_hz"] = thin(clocks_hz, SAMPLES_KEPT)
    return columns


def _samples(path: Path, state: Mapping[str, Any], tag: str, where: str, unmapped: Unmapped) -> list[float]:
    summary = next((s for s in map(mapping, listing(state.get("summaries"))) if str(s.get("tag")).startswith(tag)), None)
    if summary is None:
        return []
    told = {str(datum.get("name")): datum.get("value") for datum in map(mapping, listing(summary.get("data")))}
    name, count = string(told.get("filename")), integer(told.get("size"))
    if name is None or count is None or not 0 < count <= MOST_SAMPLES:
        unmapped.add("files of samples that are not named", where)
        return []
    # Older versions wrote the path as it was given on the command line: only its last two parts are beside the JSON.
    parts = Path(name.replace("\\", "/")).parts[-2:]
    file = path.parent.joinpath(*parts)
    try:
        inside = file.resolve().is_relative_to(path.parent.resolve())
        size_bytes = file.stat().st_size if inside else -1
        content = file.read_bytes() if size_bytes == 4 * count else b""
    except (OSError, ValueError):
        unmapped.add("files of samples that are not beside the JSON", where)
        return []
    if len(content) != 4 * count:
        unmapped.add("files of samples of another length than the JSON says, or elsewhere", where)
        return []
    samples = array("f", content)
    if sys.byteorder == "big":
        samples.byteswap()
    if not all(map(math.isfinite, samples)):
        unmapped.add("files of samples with values that are no numbers", where)
        return []
    return samples.tolist()
