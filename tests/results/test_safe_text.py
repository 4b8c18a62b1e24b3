"""Text from others on a terminal: it is seen, and does nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.safe_text import printable, printable_lines

RULES = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f", "\\x7f"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("abc\u202ecba\u2069", "abc\\u202ecba\\u2069"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("[red]H100[/red]", "[red]H100[/red]"),
        ("Größe 10 µs 速度 🚀", "Größe 10 µs 速度 🚀"),
        ("100\u202f000", "100\u202f000"),  # a narrow space is a space
    ],
)
def test_what_steers_or_hides_is_spelled_out_and_the_rest_stays(text, shown):
    assert printable(text) == shown


@RULES
@given(st.text(st.characters()))
def test_the_shown_text_can_be_encoded_and_shown_again(text):
    shown = printable(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


@RULES
@given(st.text(st.characters()), st.integers(1, 20))
def test_no_more_is_shown_than_asked_for(text, limit):
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown == printable(text) or shown.endswith("…")


def test_a_text_of_hundred_megabytes_costs_what_is_shown_of_it():
    assert printable("\x1b" * 10**8, 6) == "\\x1b\\…"


def test_lines_of_our_own_stay_lines():
    assert printable_lines("a\n\x1bb\rc\n") == "a\n\\x1bb\\x0dc\n"
