"""Scenario files: the shipped ones are well formed, and a mistake in one is told with file, question, field and mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipassay.results.errors import FileError, UnknownName
from chipassay.runners.scenario.read import KINDS, kind_module, load_scenario, only, shipped_names

RUN = '[[run]]\nmodel = "gpt2"\ntokens = 10e9\nbatch = 512\nsource = "made up"\n'
QUESTION = {
    "id": '"q"',
    "kind": '"exchange"',
    "claim": '"An H100 is worth two A100."',
    "sources": '["somebody"]',
    "measure": '"A100 for one H100"',
    "at_least": "2",
    "headline": '"$least to $most"',
    "answer": '"$least to $most: $by_model"',
    "top_chips": '["h100-sxm-80gb"]',
    "chips": '["a100-sxm-80gb"]',
    "models": '["gpt2"]',
}


def written(folder: Path, top: str = "", run: str = RUN, **changes: str | None) -> str:
    """A small scenario with fields of its question changed, or left out (None)."""
    fields = {name: value for name, value in (QUESTION | changes).items() if value is not None}
    path = folder / "small.toml"
    lines = [
        f'title = "Small"\nsummary = "One question."\n{top}',
        run,
        "[[question]]",
        *(f"{name} = {value}" for name, value in fields.items()),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_scenarios_load_and_their_claims_have_sources(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.questions
    for question in scenario.questions:
        assert all(len(source) > 10 for source in question.sources), question.id
        assert any(word in question.headline for word in ("$least", "$range")), f"{question.id}: its title does not tell the finding"
    assert all(run.source for run in scenario.runs.values())


def test_the_claims_of_2023_are_all_there() -> None:
    scenario = load_scenario("sanctions-2023")
    text = " ".join(question.claim for question in scenario.questions)
    for said in (
        "100 H100",
        "3,000 H800",
        "Three or four older chips",
        "5,000 to 10,000 A100",
        "Tencent",
        "Alibaba, Baidu and Huawei",
        "40,000",
    ):
        assert said in text
    judged = [question for question in scenario.questions if question.limits.given]
    assert len(judged) == len(scenario.questions)
    assert all(len(question.reading) > 30 for question in judged), "how a claim's words became limits is to be told"
    assert {question.kind for question in scenario.questions} == set(KINDS) - {"rent"}


def test_rent_today_uses_no_chip_without_a_quote() -> None:
    (question,) = load_scenario("rent-today").questions
    assert not question.limits.given
    assert "h100-sxm-80gb" in question.options["chips"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_takes(kind: str) -> None:
    module = kind_module(kind)
    assert set(module.NEEDED) <= set(module.FIELDS)
    assert "models" in module.FIELDS
    assert module.WORDS


def test_a_small_scenario_is_read(tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path))
    (question,) = scenario.questions
    assert (question.options["chips"], question.limits.at_least, scenario.runs["gpt2"].batch) == (("a100-sxm-80gb",), 2.0, 512)


def test_one_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    assert load_scenario(written(tmp_path, models='"gpt2"')).questions[0].options["models"] == ("gpt2",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": '"exchnge"'}, "question q: unknown kind 'exchnge'; did you mean exchange?"),
        ({"kind": None}, 'question q: kind is missing; add it, such as kind = "exchange"'),
        ({"chip": '"h800-sxm-80gb"'}, "question q: unknown field 'chip'; did you mean chips"),
        ({"chips": '["h8000-sxm-80gb"]'}, "question q: chips: unknown chip 'h8000-sxm-80gb'; did you mean h800-sxm-80gb"),
        ({"models": '["gpt22"]'}, "question q: models: unknown model 'gpt22'"),
        ({"models": "[]"}, "question q: models is an empty list"),
        ({"models": None}, "question q: models is missing"),
        ({"claim": '""'}, "question q: claim holds '', which is no text"),
        ({"at_least": '"two"'}, "question q: at_least holds 'two', which is no number"),
        ({"at_least": "5", "at_most": "4"}, "question q: at_least 5 is above at_most 4; exchange them"),
        ({"count": "0"}, "question q: count holds 0, which is not above 0"),
        ({"count": "1.5"}, "question q: count holds 1.5, which is no whole number"),
        ({"answer": '"$leest"'}, "question q: answer: unknown word 'leest'; did you mean least"),
        ({"headline": '"$by_days"'}, "question q: headline: unknown word 'by_days'"),
        (
            {"kind": '"train_time"', "top_chips": None, "days": "[30]", "models": '["gpt2-xl"]', "answer": '"$most"'},
            "no [[run]] says over how many",
        ),
        (
            {"kind": '"link"', "top_chips": None, "tps": "[1]", "count": "8", "answer": '"$most"'},
            "a100-sxm-80gb was cut from no other chip",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_its_mend(tmp_path: Path, changes: dict[str, str | None], words: str) -> None:
    with pytest.raises(FileError) as error:
        load_scenario(written(tmp_path, **changes))
    assert str(error.value).startswith(str(tmp_path / "small.toml"))
    assert words in str(error.value)


def test_a_chip_of_later_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"question q: h100-sxm-80gb came in 2022, after 2021-05"):
        load_scenario(written(tmp_path, top='as_of = "2021-05"'))


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ("as_off = 1", "unknown field 'as_off'; did you mean as_of?"),
        ('as_of = "May 2023"', "a month is written YYYY-MM"),
        ("[[runs]]\nmodel = 1", "unknown field 'runs'; did you mean run"),
    ],
)
def test_a_mistake_at_the_top_is_told(tmp_path: Path, top: str, words: str) -> None:
    with pytest.raises(FileError) as error:
        load_scenario(written(tmp_path, top=top))
    assert words in str(error.value)


def test_two_questions_of_one_name_are_refused(tmp_path: Path) -> None:
    path = Path(written(tmp_path))
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n" + text[text.index("[[question]]") :], encoding="utf-8")
    with pytest.raises(FileError, match="question q stands there twice"):
        load_scenario(str(path))


def test_a_name_that_there_is_not_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean sanctions-2023"):
        load_scenario("sanctions2023")


def test_what_is_no_toml_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("title = ", encoding="utf-8")
    with pytest.raises(FileError, match="not TOML"):
        load_scenario(str(tmp_path / "bad.toml"))
    with pytest.raises(FileError, match="cannot be read"):
        load_scenario(str(tmp_path / "none.toml"))


def test_questions_are_picked_by_their_names(tmp_path: Path) -> None:
    scenario = load_scenario("sanctions-2023")
    assert [question.id for question in only(scenario, "mixes, cut-links").questions] == ["mixes", "cut-links"]
    assert only(scenario, None) is scenario
    with pytest.raises(UnknownName, match="did you mean cut-links"):
        only(scenario, "cut-link")
