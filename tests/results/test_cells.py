"""A cell: bit for bit both ways, nothing lost that a person needs, nothing that a spreadsheet would run."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.cells import FORMULA, READERS, Remembered, from_text, protected, row_to_cells, to_text, unprotected
from chipassay.results.schema import NAMES, STATUSES, TYPES, Row

ANY_TEXT = st.text(st.characters())  # lone surrogates and control characters among it
TIMES = st.floats(min_value=0, allow_infinity=False)
NUMBERS = st.floats(allow_nan=False)
COUNTS = st.integers(-(2**63), 2**63 - 1)
RULES = settings(derandomize=True, deadline=None)


def values_of(name: str) -> st.SearchStrategy:
    """All values that the column may hold, as a reader gives them back."""
    kind = TYPES[name]
    if name == "status":
        return st.sampled_from(STATUSES)
    if kind == "str":
        return ANY_TEXT.map(to_text).map(lambda text: from_text("reason", text))
    if kind == "int":
        return COUNTS if name != "schema_version" else st.just(1)
    if kind == "bool":
        return st.booleans()
    if kind == "float":
        return TIMES if name.startswith("time_") else NUMBERS
    return st.lists(TIMES, min_size=1, max_size=5).map(tuple)


@RULES
@given(st.data())
def test_every_column_reads_back_bit_for_bit(data):
    name = data.draw(st.sampled_from(NAMES))
    value = data.draw(values_of(name))
    again = from_text(name, to_text(value))
    assert again == value
    assert type(again) is type(value)
    if isinstance(value, float):
        assert math.copysign(1.0, again) == math.copysign(1.0, value)


@RULES
@given(ANY_TEXT)
def test_text_becomes_one_encodable_line_and_stays_what_it_became(text):
    first = to_text(text)
    first.encode("utf-8")
    assert len(first.splitlines()) <= 1
    assert first == first.strip()
    assert to_text(from_text("reason", first)) == first


@RULES
@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))).map(str.strip).filter(bool))
def test_text_without_control_characters_is_not_changed(text):
    assert from_text("reason", to_text(text)) == text


def test_what_a_person_needs_of_control_characters_is_still_there():
    assert to_text("out of memory\r\n\x1b[31mat line 3\x00") == "out of memory | \\x1b[31mat line 3\\x00"
    assert to_text("a\ud800b") == "a\\ud800b"
    assert to_text("a\tb") == "a\tb"


@RULES
@given(ANY_TEXT)
def test_no_text_begins_like_a_formula(text):
    assert not to_text(text).startswith(FORMULA)
    assert not to_text(Row(op=text).op).startswith(FORMULA)
    assert unprotected(protected(text)) == text


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", " =1", "\n=1", "\uff1d1", "'=1", "\x0b@x"])
def test_formulas_of_all_kinds_are_quoted(text):
    assert to_text(text).startswith("'")
    assert from_text("reason", to_text(text)) == text.strip()


def test_no_header_begins_like_a_formula():
    assert not any(name.startswith((*FORMULA, "'", " ")) for name in NAMES)


def test_numbers_of_numpy_are_numbers():
    assert to_text(numpy.float32(-0.5)) == "-0.5"
    assert to_text(numpy.int64(-3)) == "-3"
    assert to_text(numpy.float64(0.1)) == "0.1"


def test_what_is_no_number_is_an_unknown_one():
    assert row_to_cells(Row(error=math.nan))[NAMES.index("error")] == ""


def test_an_empty_cell_is_unknown_in_every_column():
    assert [from_text(name, "") for name in NAMES] == [None] * len(NAMES)


@pytest.mark.parametrize("name", ["m", "causal", "flops", "time_median_s", "samples_s", "status"])
@pytest.mark.parametrize("text", ["nan", "NaN", "1_0", "0x10", "٣", "1,0", "=1", "1e", "--1", "infinity", "∞", "1 2 ", "\x00", "None"])
def test_what_is_not_of_the_type_is_refused_by_a_sentence_that_is_short(name, text):
    if TYPES[name].startswith("tuple") and text == "1 2 ":
        return
    with pytest.raises(ValueError, match=r"not|neither"):
        from_text(name, text)
    with pytest.raises(ValueError, match="…") as caught:
        from_text(name, text * 1000)
    assert len(str(caught.value)) < 400


def test_a_spreadsheets_capital_truth_is_truth():
    assert from_text("causal", "TRUE") is True
    assert from_text("causal", "False") is False


def test_memory_of_texts_does_not_grow_without_end():
    remembered = Remembered(str.upper)
    assert [remembered["a"], remembered["a"], remembered[""]] == ["A", "A", None]
    for i in range(3 * Remembered.MOST):
        assert remembered[f"a{i}"] == f"A{i}"
    assert remembered["x" * 10**6] == "X" * 10**6
    assert len(remembered) <= Remembered.MOST
    assert max(map(len, remembered)) <= Remembered.LONGEST


def test_every_column_has_a_reader():
    assert tuple(READERS) == NAMES
