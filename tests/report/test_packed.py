"""Columns as compact data: what goes in comes out, whatever it is, and nothing in it can leave its block."""

from __future__ import annotations

import json
import math
import struct
from base64 import b64decode

from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.runners.report.packed import Packed, block, packed

WIDTHS = {8: "B", 16: "H", 32: "I"}


def unpacked(column: Packed, count: int) -> list[object]:
    """An independent reader: what packed.js does, by ``struct``."""
    values: list[object]
    if "numbers" in column:
        raw = b64decode(column["numbers"])
        values = [None if math.isnan(x) else x for x in struct.unpack(f"<{len(raw) // 8}d", raw)]
    else:
        values = list(column["text"])
    if "at" in column:
        raw = b64decode(column["at"])
        return [values[code] for code in struct.unpack(f"<{count}{WIDTHS[column['bits']]}", raw)]
    return values * count if len(values) == 1 else values


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.none() | st.floats(allow_nan=False) | st.integers(-(2**53) + 1, 2**53 - 1), min_size=1))
def test_numbers_come_back_bit_for_bit(values: list[float | int | None]) -> None:
    back = unpacked(packed(values), len(values))
    assert [x if x is None else float(x) for x in back] == [x if x is None else float(x) for x in values]  # type: ignore[arg-type]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.none() | st.sampled_from(["a", "b", "=c", "'d", "</script>", "<!--", "\u2028x", "\ud800"]), min_size=1))
def test_text_comes_back_through_json(values: list[str | None]) -> None:
    told = block({"column": packed(values)})
    assert not {"<", ">", "&"} & set(told)
    assert told.isascii()
    # As in a CSV: a row is a line, and a lone surrogate has no UTF-8.
    expected = [None if value is None else {"\u2028x": "x", "\ud800": "\\ud800"}.get(value, value) for value in values]
    assert unpacked(json.loads(told)["column"], len(values)) == expected


def test_codes_are_as_narrow_as_they_can_be() -> None:
    for different, bits in ((2, 8), (256, 8), (257, 16), (65536, 16), (65537, 32)):
        values = [str(i % different) for i in range(4 * different)]
        column = packed(values)
        assert column["bits"] == bits
        assert unpacked(column, len(values)) == values


def test_columns_of_one_value_or_of_different_ones_carry_no_codes() -> None:
    assert packed(["a"] * 1000) == {"text": ["a"]}
    assert packed([None] * 1000) == {"numbers": packed([None])["numbers"]}
    assert "at" not in packed([float(i) for i in range(1000)])
    assert packed(["a", "b", "c"]) == {"text": ["a", "b", "c"]}


def test_whole_numbers_that_a_double_does_not_hold_travel_as_text_and_truth_as_in_the_csv() -> None:
    assert packed([2**60, 1]) == {"text": [str(2**60), "1"]}
    assert unpacked(packed([True, False, None, True]), 4) == ["true", "false", None, "true"]
