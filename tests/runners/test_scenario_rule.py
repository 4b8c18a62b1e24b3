"""The rule that turns numbers and intervals into verdicts, on made-up numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.errors import InputError, UnknownName
from chipassay.runners.scenario.answer import check_words, interval_of, judged
from chipassay.runners.scenario.records import Answer, Case, Limits, Question
from chipassay.runners.scenario.rule import SPREAD, along, outcome, verdict

AT_LEAST_3, AT_MOST_4, FROM_3_TO_4 = Limits(at_least=3), Limits(at_most=4), Limits(3, 4)


def question(limits: Limits = AT_LEAST_3, answer: str = "$least to $most", kind: str = "exchange") -> Question:
    return Question("q", kind, "a claim", ("somebody",), "old for new", limits, "$least to $most", answer, "", {})


def case(value: float, spread: float = 1.1, **axes: str) -> Case:
    return Case(axes, value, value / spread, value * spread)


def answered(*cases: Case, **options: Any) -> Answer:
    return judged(question(**options), cases)


@pytest.mark.parametrize(
    ("low", "high", "limits", "says"),
    [
        (3.1, 3.9, AT_LEAST_3, "yes"),
        (2.8, 3.9, AT_LEAST_3, "open"),
        (1.8, 2.2, AT_LEAST_3, "no"),
        (3.5, 3.9, AT_MOST_4, "yes"),
        (3.5, 4.5, AT_MOST_4, "open"),
        (5.0, 7.0, AT_MOST_4, "no"),
        (3.2, 3.8, FROM_3_TO_4, "yes"),
        (2.0, 5.0, FROM_3_TO_4, "open"),
        (2.0, 3.5, FROM_3_TO_4, "open"),
        (2.2, 2.8, FROM_3_TO_4, "no"),
        (4.2, 4.8, FROM_3_TO_4, "no"),
        (math.inf, math.inf, AT_LEAST_3, "yes"),
        (math.inf, math.inf, AT_MOST_4, "no"),
        (3.5, math.inf, AT_LEAST_3, "yes"),
        (2.5, math.inf, AT_LEAST_3, "open"),
        (3.5, math.inf, AT_MOST_4, "open"),
        (3.0, 3.0, AT_LEAST_3, "yes"),
    ],
)
def test_a_case_holds_and_fails_by_its_whole_interval(low: float, high: float, limits: Limits, says: str) -> None:
    assert outcome(low, high, limits) == says


def test_a_claim_that_holds_everywhere_is_supported() -> None:
    assert answered(case(3.5, model="a"), case(4.0, model="b")).verdict.describe() == "supported"


def test_a_claim_that_no_interval_reaches_is_not_supported() -> None:
    assert answered(case(1.0, model="a"), case(1.2, model="b")).verdict.describe() == "not supported"


def test_a_claim_whose_limit_lies_in_every_interval_depends_on_the_spread_whatever_the_values() -> None:
    for first, second in ((2.9, 2.95), (3.1, 3.2), (2.9, 3.1)):
        assert answered(case(first, model="a"), case(second, model="b")).verdict.describe() == f"depends on {SPREAD}"


def test_a_claim_that_holds_for_sure_in_one_case_and_perhaps_in_another_is_not_called_supported() -> None:
    assert answered(case(9.0, chip="a"), case(3.1, chip="b")).verdict.on == ("chip", SPREAD)
    assert answered(case(1.0, chip="a"), case(2.9, chip="b")).verdict.on == ("chip", SPREAD)


def test_a_claim_depends_on_the_axis_along_which_it_changes_and_on_no_other() -> None:
    found = answered(*(case(value, chip=chip, model=model) for chip, value in (("new", 1.0), ("old", 9.0)) for model in ("a", "b")))
    assert found.verdict.on == ("chip",)
    assert found.by_axis == {"chip": {"new": "does not hold", "old": "holds"}}
    assert found.verdict.describe() == "depends on the chip"


def test_the_axis_that_changes_most_is_named_first() -> None:
    values = {("a", "slow"): 9, ("b", "slow"): 9, ("c", "slow"): 1, ("a", "fast"): 1, ("b", "fast"): 1, ("c", "fast"): 1}
    found = answered(*(case(value, model=model, network=network) for (model, network), value in values.items()))
    assert found.verdict.on == ("network", "model")


def test_where_no_case_is_beside_another_all_that_differs_is_named() -> None:
    assert verdict([{"chip": "a", "model": "x"}, {"chip": "b", "model": "y"}], ["yes", "no"]).on == ("chip", "model")


def test_a_question_without_limits_is_answered_by_its_number() -> None:
    found = answered(case(5.0, chip="a"), limits=Limits())
    assert (found.verdict.word, found.rule) == ("answered", "No limits are stated: the answer is a number.")


def test_the_rule_names_the_limits_and_what_the_value_is() -> None:
    assert "old for new) is at least 3 and at most 4" in answered(case(5.0), limits=FROM_3_TO_4).rule


def test_cases_are_counted_and_those_that_are_sure_told_apart() -> None:
    found = answered(case(3.1, model="a"), case(9.0, model="b"), case(1.0, model="c"), case(2.9, model="d"))
    told = "Of 4 cases it holds in 1, does not in 1, is undecided in 2 (of these it holds by the best estimate in 1)."
    assert found.rule.endswith(told)
    assert found.counted == "holds in 1, does not hold in 1, is undecided in 2 of 4"
    assert answered(case(9.0)).rule.endswith("Of 1 cases it holds in 1, does not in 0, is undecided in 0.")


def test_numbers_are_put_into_the_sentence() -> None:
    found = answered(
        case(2.0, 1.5, chip="h800-sxm-80gb"), case(6.0, 2.0, chip="v100-sxm2-32gb"),
        answer="$least ($least_at) to $most ($most_at), $low to $high; $by_chip; $yes of $cases",
    )  # fmt: skip
    assert found.sentence == "2 (H800) to 6 (V100), 1.33 to 12; H800 2; V100 6; 1 of 2"
    assert found.headline == "2 to 6"


def test_what_no_number_does_is_told_with_its_reason_and_not_counted_in_the_range() -> None:
    never = Case({"chip": "b"}, math.inf, math.inf, math.inf, reason="too little memory")
    found = answered(case(5.0, chip="a"), never, answer="$least to $most: $by_chip.")
    assert found.sentence == "5 to 5: a 5; b impossible. In 1 of 2 cases no number does it (b: too little memory)."


def test_what_one_end_of_the_interval_reaches_is_told_apart_from_what_no_number_does() -> None:
    never = Case({"chip": "b"}, math.inf, math.inf, math.inf, reason="too little memory")
    perhaps = Case({"chip": "c"}, math.inf, 7.0, math.inf, reason="99 % of the speed")
    found = answered(case(5.0, chip="a"), never, perhaps, answer="$low to $high: $by_chip.")
    assert found.sentence == (
        "4.55 to 5.5: a 5; b impossible; c perhaps impossible. In 1 of 3 cases no number does it (b: too little memory). "
        "In 1 of 3 cases no number does it by the best estimate, though one may within the interval (c: 99 % of the speed)."
    )
    assert found.verdict.outcomes == ("yes", "yes", "yes")
    assert answered(perhaps, limits=Limits(at_least=9)).verdict.outcomes == ("open",)
    assert [interval_of(one) for one in found.cases] == ["4.55 to 5.5", "", "7 to impossible"]


def test_an_answer_that_was_interrupted_has_no_verdict() -> None:
    found = judged(question(), (case(9.0, chip="a"),), finished=False)
    assert (found.verdict.describe(), found.verdict.on, found.sentence) == ("unfinished", (), "9 to 9")


def test_json_has_no_infinities() -> None:
    told = answered(Case({"chip": "b"}, math.inf, math.inf, math.inf, reason="never")).to_dict()
    assert told["cases"][0]["value"] is None
    assert told["question"]["limits"] == {"at_least": 3, "at_most": None}


def test_a_question_without_a_case_is_refused() -> None:
    with pytest.raises(InputError, match="no case"):
        judged(question(), ())


def test_unknown_words_in_a_sentence_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean least"):
        check_words("at $leest", ("chip",))
    with pytest.raises(UnknownName, match="by_chip"):
        check_words("$by_chap", ("chip",))
    with pytest.raises(InputError, match=r"write \$\$"):
        check_words("costs 5 $ a day", ("chip",))
    check_words("5 $$, $least, ${most}", ())


def test_places_are_told_with_the_count_of_each_outcome() -> None:
    places = [{"chip": "a"}, {"chip": "a"}, {"chip": "b"}]
    assert along("chip", places, ["yes", "open", "no"]) == {"a": "holds in 1, is undecided in 1 of 2", "b": "does not hold"}


POSITIVE = st.floats(0.01, 1e6)


@settings(derandomize=True)
@given(value=POSITIVE, spread=st.floats(1, 10), limit=POSITIVE)
def test_holding_and_failing_mirror_each_other(value: float, spread: float, limit: float) -> None:
    above = outcome(value / spread, value * spread, Limits(at_least=limit))
    below = outcome(value / spread, value * spread, Limits(at_most=limit))
    if limit not in (value / spread, value * spread):
        assert (above, below) in {("yes", "no"), ("no", "yes"), ("open", "open")}


@settings(derandomize=True)
@given(value=POSITIVE, spread=st.floats(1, 10), limit=POSITIVE)
def test_a_wider_interval_never_settles_what_a_narrow_one_left_undecided(value: float, spread: float, limit: float) -> None:
    narrow = outcome(value / spread, value * spread, Limits(at_least=limit))
    wide = outcome(value / spread / 2, value * spread * 2, Limits(at_least=limit))
    assert wide in {narrow, "open"}
