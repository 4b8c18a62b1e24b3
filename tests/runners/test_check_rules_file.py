"""Rules as data: what a file may say, and what each mistake in it is told as."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chipassay.results.errors import FileError
from chipassay.results.schema import Row
from chipassay.runners.check.check import check_rows
from chipassay.runners.check.finding import SEVERITIES
from chipassay.runners.check.quantities import QUANTITIES
from chipassay.runners.check.rules import KEYS, load_rules, shipped_rules

README = Path(__file__).parents[2] / "runners" / "check" / "README.md"
GOOD = 'id = "mine"\nquantity = "spread"\nabove = 1.2\nseverity = "warning"\nwords = "$op: $times times"\n'


def written(path: Path, *rules: str) -> Path:
    file = path / "rules.toml"
    file.write_text("".join(f"[[rule]]\n{rule}\n" for rule in rules), encoding="utf-8")
    return file


def test_a_rule_of_ones_own_is_added(tmp_path: Path) -> None:
    rules = load_rules(written(tmp_path, GOOD))
    row = Row(op="gelu", status="ok", time_median_s=1e-3, time_p05_s=1.0, time_p95_s=1.3)
    (finding,) = check_rows([row], rules).findings
    assert (finding.rule, finding.severity, finding.words) == ("mine", "warning", "gelu: 1.3 times")


def test_a_shipped_rule_changes_only_what_the_file_says(tmp_path: Path) -> None:
    rules = {rule.id: rule for rule in load_rules(written(tmp_path, 'id = "wide-spread"\nabove = 1.2\nseverity = "fault"'))}
    shipped = {rule.id: rule for rule in shipped_rules()}
    assert (rules["wide-spread"].above, rules["wide-spread"].severity) == (1.2, "fault")
    assert rules["wide-spread"].words == shipped["wide-spread"].words
    assert [*rules] == [*shipped]


def test_a_shipped_rule_is_turned_off_with_ok(tmp_path: Path) -> None:
    rules = load_rules(written(tmp_path, 'id = "wide-spread"\nseverity = "ok"'))
    row = Row(op="gelu", status="ok", time_median_s=1e-3, time_p05_s=1.0, time_p95_s=9.0)
    assert check_rows([row]).findings
    assert not check_rows([row], rules).findings


def test_a_shipped_rule_may_get_another_quantity(tmp_path: Path) -> None:
    changed = 'id = "wide-spread"\nquantity = "rank_ratio"\nabove = 3\nwords = "rank $rank"'
    rules = {rule.id: rule for rule in load_rules(written(tmp_path, changed))}
    assert rules["wide-spread"].quantity == QUANTITIES["rank_ratio"]


def test_rules_choose_rows_by_what_they_are(tmp_path: Path) -> None:
    rules = load_rules(written(tmp_path, GOOD + 'ops = ["copy"]\nkinds = ["memory"]\ndevice_kinds = ["cuda"]\ndtypes = ["fp32"]\n'))
    case = {"status": "ok", "time_median_s": 1e-3, "time_p05_s": 1.0, "time_p95_s": 1.3, "device_kind": "cuda", "dtype": "fp32"}
    found = [check_rows([Row(op=op, **case)], rules).findings for op in ("copy", "triad")]
    assert [len(findings) for findings in found] == [1, 0]


def test_all_of_needs_each_rule_on_its_share_of_rows(tmp_path: Path) -> None:
    both = 'id = "both"\nall_of = ["mine", "late-rank"]\nshare = 0.6\nseverity = "fault"\nwords = "$chip: $share"\n'
    rules = load_rules(written(tmp_path, GOOD, both))

    def rows(late: int) -> list[Row]:
        ranks = [(1.0, 1.0, 2.0)] * late + [(1.0, 1.0, 1.0)] * (3 - late)
        case = {
            "op": "all_reduce",
            "status": "ok",
            "chip_id": "x",
            "group_size": 3,
            "time_median_s": 1e-3,
            "time_p05_s": 1.0,
            "time_p95_s": 1.3,
        }
        return [Row(size_bytes=2**i, rank_times_s=times, **case) for i, times in enumerate(ranks, start=4)]

    assert [finding.words for finding in check_rows(rows(2), rules).machine if finding.rule == "both"] == ["x: 66.7 %"]
    assert not [finding for finding in check_rows(rows(1), rules).machine if finding.rule == "both"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (GOOD + "beyond = 3\n", "unknown key 'beyond'"),
        (GOOD.replace('"spread"', '"spred"'), "unknown quantity 'spred'; did you mean spread?"),
        (GOOD.replace('"warning"', '"bad"'), "severity is 'bad'"),
        (GOOD.replace('severity = "warning"\n', ""), "no severity; one of ok, note, warning"),
        (GOOD.replace("above = 1.2", ""), "no operator"),
        (GOOD + "missing = true\n", "above or below and missing"),
        (GOOD + 'all_of = ["spread"]\n', "above or below and all_of"),
        (GOOD.replace("1.2", '"much"'), "above is 'much'"),
        (GOOD.replace("1.2", "true"), "above is True"),
        (GOOD.replace("1.2", "nan"), "above is nan"),
        (GOOD.replace("$op", "$ops"), "unknown field of words '$ops'; did you mean $op?"),
        (GOOD.replace("$op", "$op.upper() costs 3$"), "write $$"),
        (GOOD.replace("$op", "${op.__class__}"), "write $$"),
        (GOOD.replace('words = "$op: $times times"', ""), "words is ''"),
        (GOOD + 'kinds = ["cpu"]\n', "unknown kind 'cpu'"),
        (GOOD + "ops = []\n", "ops is []"),
        (GOOD + 'ops = "copy"\n', "ops is 'copy'"),
        (GOOD + "share = 0.5\n", "share belongs to all_of"),
        (GOOD + 'unless = ["nothing"]\n', "no earlier rule"),
        ('id = "m"\nall_of = ["nothing"]\nseverity = "note"\nwords = "w"\n', "no earlier rule"),
        ('id = "m"\nall_of = []\nseverity = "note"\nwords = "w"\n', "all_of is empty"),
        ('id = "m"\nall_of = ["dip"]\nshare = 2\nseverity = "note"\nwords = "w"\n', "share must lie"),
        ('id = "m"\nquantity = "spread"\nall_of = ["dip"]\nseverity = "note"\nwords = "w"\n', "a quantity belongs"),
        ('id = "m"\nquantity = "known_chip"\nmissing = false\nseverity = "note"\nwords = "w"\n', "missing takes true"),
        ('id = "m"\nquantity = "known_chip"\nmissing = true\nops = ["copy"]\nseverity = "note"\nwords = "w"\n', "of the machine"),
        ('id = "m"\nquantity = "known_chip"\nmissing = true\nseverity = "note"\nwords = "$value"\n', "unknown field"),
    ],
)
def test_a_mistake_names_file_rule_and_what_it_is(tmp_path: Path, rule: str, words: str) -> None:
    path = written(tmp_path, rule)
    with pytest.raises(FileError, match=re.escape(words)) as caught:
        load_rules(path)
    assert str(path) in str(caught.value)
    assert "rule 'm" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]\n", "not TOML"),
        ("[[rules]]\nid = 'x'\n", "holds rules"),
        ("rule = 3\n", "only [[rule]]"),
        ("[[rule]]\nwords = 'x'\n", "rule 1 has no id"),
        ("[[rule]]\nid = 'x'\n[[rule]]\nid = 'x'\n", "twice"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(FileError, match=re.escape(words)):
        load_rules(path)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        load_rules(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes("id = 'ä'".encode("latin-1"))
    with pytest.raises(FileError, match="UTF-8"):
        load_rules(tmp_path / "latin.toml")


def test_what_a_rule_says_is_never_run(tmp_path: Path) -> None:
    """Names alone are put in: a cell with a template or a format in it stays the text that it is."""
    rules = load_rules(written(tmp_path, GOOD))
    row = Row(op="$dtype {0} ${words}", status="ok", time_median_s=1e-3, time_p05_s=1.0, time_p95_s=1.3)
    assert check_rows([row], rules).findings[0].words == "$dtype {0} ${words}: 1.3 times"


def test_the_readme_names_every_quantity_key_and_severity() -> None:
    text = README.read_text(encoding="utf-8")
    for name in (*QUANTITIES, *KEYS, *SEVERITIES):
        assert f"`{name}`" in text, name
