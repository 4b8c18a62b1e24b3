"""Prices: quotes stay dated quotes, a median says what it is the median of, and the user's word goes before all."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipassay.results.errors import FileError, InputError, UnknownName
from chipassay.results.evidence import Evidence
from chipassay.results.prices import PRICES_CSV, Quote, load_quotes, price, price_of, read_overrides

from .changed_tables import changed


def quote(usd: float, date: str, provider: str = "X", chip_id: str = "t4-pcie-16gb", bought: float | None = None) -> Quote:
    """A quote as a table might hold it; ``bought`` makes it one of a purchase."""
    hourly = None if bought else usd
    return Quote(chip_id, provider, "", hourly, bought, date, "", Evidence("published", "a page"))


def test_a_price_says_how_many_quotes_from_when_to_when_and_between_what() -> None:
    found = price("t4-pcie-16gb", quotes=[quote(1.0, "2025-03"), quote(4.0, "2026-01-15"), quote(2.0, "2026")])
    assert found is not None
    assert (found.usd, found.lowest_usd, found.highest_usd, found.quotes) == (2.0, 1.0, 4.0, 3)
    assert found.describe() == "2 USD per chip and hour (median of 3 quotes, 2025-03 to 2026-01-15, from 1 to 4)"


def test_quotes_older_than_the_year_before_the_latest_are_history() -> None:
    found = price("t4-pcie-16gb", quotes=[quote(9.0, "2023-08-16"), quote(1.0, "2025"), quote(3.0, "2026-10")])
    assert found is not None
    assert (found.quotes, found.date_first) == (2, "2025")


def test_the_price_as_of_a_day_knows_nothing_later_and_nothing_undated() -> None:
    quotes = [quote(9.0, "2023-08-16"), quote(1.0, "2025-06"), quote(5.0, "")]
    found = price("t4-pcie-16gb", as_of="2025-05-31", quotes=quotes)
    assert found is not None
    assert (found.usd, found.date_last) == (9.0, "2023-08-16")
    assert price("t4-pcie-16gb", as_of="2023-08-15", quotes=quotes) is None
    with pytest.raises(InputError, match="write YYYY, YYYY-MM or YYYY-MM-DD"):
        price("t4-pcie-16gb", as_of="May 2025", quotes=quotes)


def test_an_undated_quote_counts_only_where_there_is_no_dated_one() -> None:
    undated = price("t4-pcie-16gb", quotes=[quote(5.0, "")])
    assert undated is not None
    assert "undated" in undated.describe()
    both = price("t4-pcie-16gb", quotes=[quote(5.0, ""), quote(1.0, "2024")])
    assert both is not None
    assert both.usd == 1.0


def test_renting_and_buying_are_never_mixed() -> None:
    quotes = [quote(2.0, "2026"), quote(0.0, "2026", bought=8000.0)]
    rented, bought = price("t4-pcie-16gb", quotes=quotes), price("t4-pcie-16gb", "purchase_usd_per_chip", quotes=quotes)
    assert rented is not None
    assert bought is not None
    assert (rented.usd, bought.usd) == (2.0, 8000.0)
    assert "USD per chip (one quote, 2026)" in bought.describe()


def test_a_price_is_as_sure_as_its_weakest_quote() -> None:
    """AWS's prices after the cut of June 2025 are from memory; they stand among the quotes of the H100."""
    found = price("h100-sxm-80gb")
    assert found is not None
    assert found.evidence.level == "assumed"
    assert "AWS" in found.evidence.source


def test_nobody_quoted_an_a800_and_nothing_is_made_up_for_it() -> None:
    assert price("a800-sxm-80gb") is None
    with pytest.raises(UnknownName):
        price("a900")


def test_shipped_ranges_are_two_quotes_and_not_their_middle() -> None:
    ends = [q.usd_per_chip_hour for q in load_quotes() if q.chip_id == "h100-sxm-80gb" and q.provider == "hyperscalers"]
    assert ends == [3.5, 5.0]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("chip_id", "h100", "no chip of the catalogue"),
        ("usd_per_chip_hour", "-1", "at least 0"),
        ("usd_per_chip_hour", "cheap", "not a number"),
        ("usd_per_chip_hour", "400", "not for a node"),
        ("usd_per_chip_hour", "", "of renting or of buying"),
        ("purchase_usd_per_chip", "9000", "of renting or of buying"),
        ("date", "16.8.2023", "no date; write YYYY"),
        ("date", "2023-13", "no date"),
        ("evidence", "", "'' is not one of"),
        ("source", "", "every row needs it"),
        ("provider", "", "every row needs it"),
    ],
)
def test_a_quote_that_cannot_be_is_named_by_line_and_column(tmp_path: Path, column: str, value: str, words: str) -> None:
    with pytest.raises(FileError, match=words) as caught:
        load_quotes(changed(PRICES_CSV, tmp_path, column, value, "a100-sxm-80gb,"))
    assert caught.value.line == 2


def test_the_users_price_goes_before_the_quotes() -> None:
    overrides = read_overrides(["H100-SXM-80GB=2.5"], ["h100-sxm-80gb", "t4-pcie-16gb"])
    given, quoted = price_of("h100-sxm-80gb", overrides), price_of("t4-pcie-16gb", overrides)
    assert given is not None
    assert quoted is not None
    assert (given.usd, given.quotes, given.describe()) == (2.5, 0, "2.5 USD per chip and hour (as given)")
    assert quoted.quotes > 1


def test_a_machine_that_is_in_no_catalogue_has_the_price_that_is_given() -> None:
    overrides = read_overrides(["cpu-2-cores=0.1"], ["cpu-2-cores"])
    given = price_of("cpu-2-cores", overrides)
    assert given is not None
    assert given.usd == 0.1
    assert price_of("cpu-2-cores", {}) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["h100-sxm-80gb"], "not CHIP=USD; write for example h100-sxm-80gb=2.50"),
        (["h100-sxm-80gb="], "not CHIP=USD"),
        (["=2"], "not CHIP=USD"),
        (["h100=2"], "unknown chip 'h100'; did you mean"),
        (["t4-pcie-16gb=2"], "no t4-pcie-16gb takes part; give the price of h100-sxm-80gb"),
        (["h100-sxm-80gb=free"], "'free' is not a number"),
        (["h100-sxm-80gb=2,50"], "'2,50' is not a number"),
        (["h100-sxm-80gb=-2"], "must be above 0"),
        (["h100-sxm-80gb=0"], "must be above 0"),
        (["h100-sxm-80gb=inf"], "finite"),
        (["h100-sxm-80gb=nan"], "finite"),
        (["h100-sxm-80gb=2", "h100-sxm-80gb=3"], "one per chip"),
    ],
)
def test_a_price_that_cannot_be_read_is_refused_with_its_mend(given: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_overrides(given, ["h100-sxm-80gb"])
