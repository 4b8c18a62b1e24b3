"""`chipassay scenario` end to end, on a scenario small enough for a test, and what its kinds of questions must give."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipassay.results.errors import InputError
from chipassay.results.prices import price
from chipassay.runners.cli import main
from chipassay.runners.scenario.answer import answer, answers
from chipassay.runners.scenario.fewest import fewest, impossible, smooth, span
from chipassay.runners.scenario.kinds import rent, train_time
from chipassay.runners.scenario.kinds.rent import WITHOUT_LIMIT, Offer, marked, told
from chipassay.runners.scenario.read import load_scenario
from chipassay.runners.scenario.records import Answer, Case
from chipassay.runners.scenario.sides import fastest, parts_of
from chipassay.scaling.cluster import make_group, resolve_profile
from chipassay.scaling.cost import run_cost
from chipassay.scaling.errors import IllegalPlan, NoPlanFits
from chipassay.scaling.search import best_plan

HEAD = """
title = "Small"
summary = "Small models on small clusters."
as_of = "2023-08"
prices_until = "2023-12"
[[run]]
model = "gpt3-1.3b"
tokens = 26e9
batch = 512
source = "made up for a test"
[[price]]
chip = "a800-sxm-80gb"
like = "a100-sxm-80gb"
why = "a test"
"""
COMMON = """claim = "c"
sources = ["a test"]
measure = "times"
headline = "$range"
answer = "$range"
models = ["gpt3-1.3b"]
"""
QUESTIONS = {
    "exchange": 'top_chips = ["h100-sxm-80gb"]\nchips = ["h800-sxm-80gb", "a100-sxm-80gb", "v100-sxm2-32gb"]\nat_least = 1.6\n',
    "count": 'kind = "exchange"\ntop_chips = ["a100-sxm-80gb"]\ncount = 16\nchips = ["a800-sxm-80gb"]\n'
    'networks = ["hdr200x8", "eth25x1"]\nat_most = 20\n',
    "train_time": 'chips = ["a100-sxm-80gb"]\ndays = [0.25, 1]\nat_most = 100\n',
    "cluster": 'clusters = ["16xa100-sxm-80gb", "16xa800-sxm-80gb"]\nagainst = "16xa100-sxm-80gb"\nat_least = 1.0\n',
    "link": 'chips = ["a800-sxm-80gb"]\ntps = [1, 8]\ncount = 16\nat_least = 5\n',
    "ways": 'reference = "16xa100-sxm-80gb"\nchips = ["a800-sxm-80gb"]\nof = "usd"\nat_least = 0.9\n',
    "mix": 'clusters = ["8xa100-sxm-80gb+8xv100-sxm2-32gb"]\nat_least = 1.0\n',
    "rent": 'chips = ["a100-sxm-80gb", "h100-sxm-80gb"]\nmost_chips = 32\ndays = [0.5, 2]\n',
}  # fmt: skip


def written(folder: Path, *names: str) -> str:
    path = folder / "small.toml"
    blocks = []
    for name in names:
        kind = "" if QUESTIONS[name].startswith("kind") else f'kind = "{name}"\n'
        blocks.append(f'[[question]]\nid = "{name}"\n{kind}{COMMON}{QUESTIONS[name]}')
    path.write_text(HEAD + "\n".join(blocks), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    scenario = load_scenario(written(tmp_path_factory.mktemp("scenario"), *QUESTIONS))
    return {question.id: answer(question, scenario) for question in scenario.questions}


def by(answer: Answer, axis: str) -> dict[str, Case]:
    return {case.axes[axis]: case for case in answer.cases}


def test_a_cut_chip_is_worth_less_than_the_whole_one_and_an_older_one_less_than_that(found: dict[str, Answer]) -> None:
    cases = by(found["exchange"], "chip")
    assert 1 <= cases["h800-sxm-80gb"].value < cases["a100-sxm-80gb"].value < cases["v100-sxm2-32gb"].value
    assert found["exchange"].verdict.on == ("chip",)


def test_chips_of_one_silicon_have_the_narrower_interval(found: dict[str, Answer]) -> None:
    cases = by(found["exchange"], "chip")
    assert cases["h800-sxm-80gb"].high / cases["h800-sxm-80gb"].low < cases["a100-sxm-80gb"].high / cases["a100-sxm-80gb"].low


def test_a_slower_network_takes_more_chips(found: dict[str, Answer]) -> None:
    cases = by(found["count"], "network")
    assert 16 <= cases["hdr200x8"].value < cases["eth25x1"].value
    assert cases["hdr200x8"].value % 8 == 0


def test_less_time_takes_more_chips(found: dict[str, Answer]) -> None:
    cases = by(found["train_time"], "days")
    assert cases["0.25 days"].value >= 3.5 * cases["1 days"].value


@pytest.mark.parametrize("text", ["h100-sxm-80gb", "8xh100-sxm-80gb+8xa100-sxm-80gb", "0xh100-sxm-80gb", "8xh1000"])
def test_what_is_no_number_of_one_kind_of_chip_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parts_of(text)


def test_a_cluster_is_as_fast_as_itself(found: dict[str, Answer]) -> None:
    cases = by(found["cluster"], "cluster")
    same, cut = (next(case for name, case in cases.items() if chip in name) for chip in ("a100", "a800"))
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))
    assert cut.value <= 1


def test_wide_tensor_parallelism_feels_the_cut_link_more(found: dict[str, Answer]) -> None:
    cases = by(found["link"], "tp")
    assert 0 <= cases["TP 1"].value < cases["TP 8"].value


def test_who_may_choose_the_width_loses_no_more_to_the_cut_link_than_the_whole_chips_best_width_does(found: dict[str, Answer]) -> None:
    cases = by(found["link"], "tp")
    steps = {place: (case.numbers["step on the whole chip, s"], case.numbers["step on the cut chip, s"]) for place, case in cases.items()}
    for place in (0, 1):
        assert steps["best TP"][place] == min(step[place] for step in steps.values())  # type: ignore[type-var]


def test_the_cost_of_a_way_is_its_chip_hours_at_the_price_that_stands_for_its_own(found: dict[str, Answer]) -> None:
    (case,) = found["ways"].cases
    chips, days, usd, reference = (case.numbers[name] for name in ("chips", "days", "million USD", "million USD of the reference"))
    assert isinstance(chips, float)
    assert isinstance(days, float)
    assert isinstance(usd, float)
    assert isinstance(reference, float)
    quote = price("a100-sxm-80gb", as_of="2023-12")
    assert quote is not None
    assert 1e6 * usd == pytest.approx(chips * days * 24 * quote.usd)
    assert case.value == pytest.approx(usd / reference)
    assert "a test" in str(case.numbers["price"])


def test_a_mix_is_told_beside_its_best_part_and_an_even_split(found: dict[str, Answer]) -> None:
    (case,) = found["mix"].cases
    mixed, alone, even = (case.numbers[name] for name in ("mixed, tokens/s", "best part alone, tokens/s", "even split, tokens/s"))
    assert isinstance(mixed, float)
    assert isinstance(alone, float)
    assert isinstance(even, float)
    assert case.value == pytest.approx(mixed / alone)
    assert even <= mixed
    assert case.numbers["which part"] == "a100-sxm-80gb"


def test_rent_is_chips_times_days_times_the_price(found: dict[str, Answer]) -> None:
    for case in found["rent"].cases:
        days, usd = case.numbers["days"], case.numbers["USD per chip and hour"]
        assert isinstance(days, float)
        assert isinstance(usd, float)
        assert case.value == pytest.approx(int(case.axes["count"].split()[0]) * days * 24 * usd)
        assert case.low <= case.value <= case.high


def test_the_cheapest_rent_is_never_dearer_than_the_small_search_on_any_number_of_chips(found: dict[str, Answer], tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path, "rent"))
    for chip in ("a100-sxm-80gb", "h100-sxm-80gb"):
        quote = price(chip, as_of="2023-12")
        assert quote is not None
        cheapest = min(case.value for case in found["rent"].cases if case.axes["chip"] == chip)
        for count in (1, 3, 8, 16, 24, 32):
            try:
                speed = fastest("gpt3-1.3b", f"{count}x{chip}", scenario, 512).tokens_per_s
            except (NoPlanFits, IllegalPlan):
                continue
            assert cheapest <= 1.002 * 26e9 / speed / 3600 * count * quote.usd  # restarts are counted in the one and not in the other


def test_the_cheapest_within_some_days_is_done_by_then_and_nothing_cheaper_is(found: dict[str, Answer]) -> None:
    cases = [(case, float(case.numbers["days"] or 0), str(case.numbers["cheapest"] or "")) for case in found["rent"].cases]
    for words, days in (("within 0.5 days", 0.5), ("within 2 days", 2.0), (WITHOUT_LIMIT, math.inf)):
        (winner,) = (case for case, _, named in cases if words in named)
        assert float(winner.numbers["days"] or 0) <= days
        assert all(winner.value <= case.value for case, took, _ in cases if took <= days)
        told = next(note for note in found["rent"].notes if note.startswith(f"Cheapest {words}: "))
        assert told.endswith(f"In full: {winner.numbers['in full']}")


def test_the_command_that_rent_names_predicts_the_same_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(written(tmp_path, "rent"))
    path.write_text(path.read_text(encoding="utf-8").replace('as_of = "2023-08"\n', ""))  # predict knows the software of today alone
    scenario = load_scenario(str(path))
    case = min(answer(scenario.questions[0], scenario).cases, key=lambda case: case.value)
    assert main([*str(case.numbers["in full"]).split()[1:], "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)
    days = 26e9 / predicted["tokens_per_s"] / 86400
    assert case.numbers["days"] == pytest.approx(days, rel=2e-3)  # restarts are counted in the one and not in the other


def test_rent_says_how_many_quotes_there_are_and_what_the_lowest_would_cost(found: dict[str, Answer]) -> None:
    notes = "\n".join(found["rent"].notes)
    assert "One quote only" in notes  # of the H100 at the end of 2023
    assert "Whoever gets the lowest quote" in notes
    for case in found["rent"].cases:
        lowest, median, usd = (case.numbers[name] for name in ("lowest quote", "USD per chip and hour", "USD at the lowest quote"))
        assert isinstance(lowest, float)
        assert isinstance(median, float)
        assert usd == pytest.approx(case.value * lowest / median)


def test_a_chip_within_the_interval_of_the_cheapest_is_not_told_apart() -> None:
    quote = price("a100-sxm-80gb", as_of="2023-12")
    assert quote is not None
    offers = []
    for chip in ("a100-sxm-80gb", "h100-sxm-80gb"):
        prediction = best_plan("gpt3-1.3b", f"8x{chip}", 512)
        offers.append((prediction, make_group(8, resolve_profile(chip))))
    slow, fast = (prediction.tokens_per_s for prediction, _ in offers)
    for factor, says in ((1.01, "no"), (2.0, "yes")):  # what the H100 costs for the same run, over the A100
        dear = replace(quote, usd=quote.usd * factor * fast / slow)
        costs = [run_cost(prediction, 26e9, quoted) for (prediction, _), quoted in zip(offers, (quote, dear), strict=True)]
        cases = told([Offer(*offer, cost, quoted) for offer, cost, quoted in zip(offers, costs, (quote, dear), strict=True)], {}, ())
        assert {case.axes["chip"]: case.numbers["told apart"] for case in cases} == {"a100-sxm-80gb": None, "h100-sxm-80gb": says}


def test_a_chip_that_cannot_be_rented_for_it_is_told_with_the_reason(tmp_path: Path) -> None:
    path = Path(written(tmp_path, "rent"))
    path.write_text(path.read_text(encoding="utf-8").replace('"gpt3-1.3b"', '"gpt3-175b"').replace("most_chips = 32", "most_chips = 8"))
    scenario = load_scenario(str(path))
    found = answer(scenario.questions[0], scenario)
    assert all(math.isinf(case.value) and case.reason for case in found.cases)
    assert sum("is left out: " in note for note in found.notes) == 2


def test_only_what_no_other_beats_in_both_is_marked() -> None:
    cases = [Case({}, usd, usd, usd, {"days": days}) for usd, days in ((1.0, 9.0), (2.0, 3.0), (3.0, 5.0), (2.0, 3.0))]
    assert [case.numbers["unbeaten"] for case in marked(cases)] == ["yes", "yes", None, "yes"]


def test_fewest_is_the_least_number_that_is_fast_enough(tmp_path: Path) -> None:
    search = fewest("gpt3-1.3b", "a100-sxm-80gb", None, load_scenario(written(tmp_path, "exchange")), 512)
    aim = 3.5 * best_plan("gpt3-1.3b", "8xa100-sxm-80gb", 512).tokens_per_s
    reached = search.reaching(aim)
    assert reached is not None
    assert reached.tokens_per_s >= aim
    for nodes in range(1, reached.chips // 8):
        if smooth(nodes):
            fewer = search.at(8 * nodes)
            assert fewer is None or fewer.tokens_per_s < aim
    assert search.reaching(1e15) is None
    assert "runs out of parallel work" in search.why_not(1e15)


def test_what_misses_a_speed_by_little_is_perhaps_impossible_and_by_much_impossible(tmp_path: Path) -> None:
    search = fewest("gpt3-1.3b", "a100-sxm-80gb", None, load_scenario(written(tmp_path, "exchange")), 8)
    assert search.reaching(1e15) is None
    top = search.fastest
    assert top is not None
    near = impossible(search, 1.01 * top.tokens_per_s, lambda other: 1.2, {})
    assert (near.value, near.high) == (math.inf, math.inf)
    assert math.isfinite(near.low)
    assert "within the 80 % interval" in near.reason
    far = impossible(search, 1.5 * top.tokens_per_s, lambda other: 1.2, {})
    assert (far.low, "within" in far.reason) == (math.inf, False)


def test_the_interval_of_a_number_follows_how_speed_grows_with_it(tmp_path: Path) -> None:
    search = fewest("gpt3-1.3b", "a100-sxm-80gb", None, load_scenario(written(tmp_path, "exchange")), 512)
    aim = 3.5 * best_plan("gpt3-1.3b", "8xa100-sxm-80gb", 512).tokens_per_s
    found = search.reaching(aim)
    assert found is not None
    low, high = span(search, found.chips, aim / 1.5, aim * 1.5)
    assert low < found.chips < high
    assert search.fleet.speed(int(low)) >= aim / 1.5
    assert span(search, found.chips, aim / 1.5, 1e15)[1] == math.inf


def test_a_price_that_is_missing_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    path = Path(written(tmp_path, "ways"))
    path.write_text(path.read_text(encoding="utf-8").replace('prices_until = "2023-12"', 'prices_until = "2019-12"'))
    scenario = load_scenario(str(path))
    with pytest.raises(InputError, match="no quote of a800-sxm-80gb is known by 2019-12; add a"):
        answer(scenario.questions[0], scenario)


def test_ctrl_c_leaves_the_answers_that_there_are_marked_as_unfinished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_time.cases

    def stopped(*asked: Any) -> Iterator[Case]:
        yield next(whole(*asked))
        raise KeyboardInterrupt

    monkeypatch.setattr(train_time, "cases", stopped)
    path = written(tmp_path, "cluster", "train_time", "rent")
    assert main(["scenario", path]) == 130
    printed = capsys.readouterr()
    assert "cluster: supported" not in printed.out  # the A800 is not sure to be as fast as the A100
    assert "cluster: depends" in printed.out
    assert "train_time: unfinished" in printed.out
    missing = "UNFINISHED: interrupted; without a full answer: train_time, rent."
    assert printed.out.splitlines()[-1] == missing
    assert max(map(len, printed.out.splitlines())) <= 100
    assert missing in printed.err
    assert main(["scenario", path, "--json"]) == 130
    told = json.loads(capsys.readouterr().out)
    assert told["unfinished"] == missing
    assert [one["verdict"] for one in told["answers"]][1:] == ["unfinished"]
    assert main(["scenario", path, "--format", "markdown"]) == 130
    assert "**UNFINISHED: interrupted; " in capsys.readouterr().out


def test_ctrl_c_while_chips_are_priced_tells_those_that_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search, asked = rent.plan_best, []

    def stopped(model: Any, group: Any, *rest: Any, **options: Any) -> Any:
        asked.append(group.profile.chip_id)
        answered = search(model, group, *rest, **options)
        return answered if "h100" not in group.profile.chip_id else replace(answered, interrupted=True)

    monkeypatch.setattr(rent, "plan_best", stopped)
    assert main(["scenario", written(tmp_path, "rent")]) == 130
    out = capsys.readouterr().out
    assert "rent: unfinished" in out
    assert "Cheapest without limit: " in out
    assert "H100" not in out
    assert asked[-1] == "h100-sxm-80gb"


def test_what_is_worked_on_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    scenario = load_scenario(written(tmp_path, "train_time", "rent"))
    list(answers(scenario, lambda place, words: told.append((place, words))))
    assert told[:3] == [(0, "train_time: case 1"), (0, "train_time: case 2"), (0, "train_time: case 3")]
    assert (1, "rent: H100, 2 of 2 chips") in told


def test_ctrl_c_before_any_case_prints_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*asked: Any) -> Iterator[Case]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(train_time, "cases", stopped)
    assert main(["scenario", written(tmp_path, "train_time")]) == 130
    printed = capsys.readouterr()
    assert (printed.out, "train_time" in printed.err) == ("", True)


def test_every_answer_names_what_it_takes_for_granted(found: dict[str, Answer]) -> None:
    for answered in found.values():
        told = "\n".join(answered.assumed)
        assert "GPT-3 1.3B" in told
        assert "Software of 2023-08: flash2 attention" in told
        assert "Evidence of the " in told
    assert "Prices per chip and hour, quoted until 2023-12: A800 " in "\n".join(found["ways"].assumed)
    assert "A800 1 x 25G Ethernet (assumed)" in "\n".join(found["count"].assumed)


def test_the_command_lists_what_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario"]) == 0
    assert "sanctions-2023: " in capsys.readouterr().out


def test_the_command_prints_text_of_a_terminals_width(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", written(tmp_path, "exchange", "rent")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert "exchange: depends on the chip" in lines


def test_json_is_whole_and_has_no_infinity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", written(tmp_path, "exchange", "train_time"), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    first = told["answers"][0]
    assert first["verdict"] == "depends on the chip"
    assert [case["outcome"] for case in first["cases"]] == ["no", "yes", "yes"]
    assert all(math.isfinite(case["value"]) for case in first["cases"])


def test_markdown_has_every_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", written(tmp_path, "exchange"), "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# Small")
    assert sum(line.startswith("| ") and "gpt3-1.3b" in line for line in out.splitlines()) == 3


def test_the_page_stands_alone_and_pictures_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    page = tmp_path / "page.html"
    assert main(["scenario", written(tmp_path, *QUESTIONS), "--html", str(page), "--pictures", str(tmp_path / "new")]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == len(QUESTIONS)
    first = text[text.index('<p class="sentence">') :].partition("</p>")[0]
    assert " claims: " in first
    assert not any(loaded in text for loaded in ("<script", "src=", "@import", 'href="http'))
    assert len(list((tmp_path / "new").glob("small-*.png"))) == len(QUESTIONS)


def test_a_file_of_another_kind_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", "sanctions-2023", "--html", str(tmp_path / "page.pdf")]) == 2
    assert "--html writes .html" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["scenario", "sanctions-2023", "--pictures", str(tmp_path / "file")]) == 2
    assert "cannot be made a folder" in capsys.readouterr().err
