"""A comparison in every format, from a small one that is known; and what a gate in CI counts of it."""

from __future__ import annotations

import csv
import io
import json

import pandas
import pytest
from rich.text import Text

from chipassay.results.compare.comparison import PAIR_COLUMNS, VERDICTS, Comparison, Side
from chipassay.results.errors import InputError
from chipassay.results.schema import KEY_NAMES
from chipassay.runners.comparison import markdown as markdown_module
from chipassay.runners.comparison.asked import exit_code, failures
from chipassay.runners.comparison.data import write_csv, write_json
from chipassay.runners.comparison.html import write_html
from chipassay.runners.comparison.markdown import markdown
from chipassay.runners.comparison.terminal import terminal
from chipassay.runners.comparison.view import view

HOSTILE = "a|b <script>alert(1)</script> [red]x[/red] \x1b[2J`c` @everyone \u202egnp #1 =1+1"
"""What a device name or a variant could be: table borders, HTML, rich markup, an escape sequence, code, a mention, bidi, a reference."""


def pair(verdict, ratio=1.0, **values):
    ratio = float("nan") if verdict == "NOT-COMPARABLE" else ratio
    known = {
        "op": "copy", "dtype": "fp32", "elements": 1024, "kernel": "torch.copy_", "backend": "torch", "kind": "memory",
        "base_chip": "x", "new_chip": "x", "base_time_s": 1e-3, "new_time_s": 1e-3 * ratio, "ratio": ratio, "ratio_low": ratio - 0.01,
        "ratio_high": ratio + 0.01, "p_value": 0.5, "p_adjusted": 0.5, "base_samples": 30, "new_samples": 30, "base_runs": 1,
        "new_runs": 1, "threshold": 0.03, "verdict": verdict, "reason": "", "broken": False,
    }  # fmt: skip
    return {**dict.fromkeys([*KEY_NAMES, *PAIR_COLUMNS]), **known, **values}


def comparison(pairs, unmatched=(), **more):
    columns = [*KEY_NAMES, "side", "chip", "status", "time_s", "reason"]
    return Comparison(
        base=Side("old.csv", ("old.csv",), ("x",), 1, len(pairs)),
        new=Side(more.pop("name", "new.csv"), ("new.csv",), ("x",), 2, len(pairs)),
        pairs=pandas.DataFrame(list(pairs), columns=[*KEY_NAMES, *PAIR_COLUMNS]),
        unmatched=pandas.DataFrame(list(unmatched), columns=columns),
        **more,
    )


@pytest.fixture
def known():
    """One of each verdict, one broken row, one without a partner."""
    return comparison(
        [
            pair("SAME"),
            pair("SLOWER", 1.25, op="matmul", dtype="bf16", m=256, n=512, k=128, elements=None, kind="compute"),
            pair("FASTER", 0.8, elements=2048),
            pair("UNCLEAR", 1.04, elements=4096, reason="too noisy"),
            pair("NOT-COMPARABLE", elements=8192, reason="the new row is out_of_memory: no room", broken=True),
        ],
        [{"op": "copy", "dtype": "fp32", "elements": 5, "side": "base", "status": "ok", "reason": None}],
        notes=("Everything moved together.",),
    )


def test_the_terminal_shows_sides_counts_rows_reasons_and_one_closing_sentence(known):
    text = terminal([view(known, 10)])
    assert "old.csv: x, 1 run, 5 rows" in text
    assert "new.csv: x, 2 runs pooled, 5 rows" in text
    assert "1 SLOWER, 1 FASTER, 1 UNCLEAR, 1 SAME, 1 NOT-COMPARABLE; 1 row broken" in text
    worst = next(line for line in text.splitlines() if "matmul 256 x 512 x 128 bf16 torch.copy_" in line)
    assert "1.00 ms" in worst
    assert "1.25 ms" in worst
    assert "+25.0 %" in worst
    assert "+24.0 to +26.0 %" in worst
    assert "only in the base: copy" in text
    assert "the new row is out_of_memory: no room" in text
    assert "note: Everything moved together." in text
    assert text.splitlines()[-1] == (
        "1 of 4 compared pairs is slower, most of all matmul 256 x 512 x 128 bf16 torch.copy_ (+25.0 %); "
        "1 row that was ok is no longer; 1 is faster; 1 is unclear, neither proved to have changed nor to be the same."
    )


def test_the_terminal_keeps_to_its_width_and_a_pipe_gets_whole_lines(known):
    narrow = terminal([view(known, 10)], width=72)
    tables = [line for line in narrow.splitlines() if "note" not in line]
    assert max(map(len, tables)) <= 72
    assert "\x1b" not in terminal([view(known, 10)])
    assert "\x1b[" in terminal([view(known, 10)], width=100, colour=True)


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([pair("SAME"), pair("SAME")], "No slowdown was found in 2 compared pairs; all are the same within their thresholds."),
        ([pair("FASTER", 0.5)], "No slowdown was found in 1 compared pair; 1 is faster."),
        ([pair("NOT-COMPARABLE")], "Nothing could be compared."),
        ([], "Nothing could be compared: no case is on both sides."),
        (
            [pair("UNCLEAR")] * 2,
            "No slowdown is certain in 2 compared pairs; 2 are unclear, neither proved to have changed nor to be the same.",
        ),
        ([pair("NOT-COMPARABLE", broken=True)] * 2, "Nothing could be compared; 2 rows that were ok are no longer."),
    ],
)
def test_the_closing_sentence_says_what_it_comes_to_and_no_more(pairs, sentence):
    assert view(comparison(pairs), 10).closing == sentence


def hostile():
    return comparison(
        [
            pair("SLOWER", 1.5, variant=HOSTILE, reason=HOSTILE),
            pair("NOT-COMPARABLE", kernel=HOSTILE, reason=HOSTILE, broken=True),
        ],
        [{"op": HOSTILE, "side": "new", "status": "ok", "reason": HOSTILE}],
        name=HOSTILE,
        notes=(HOSTILE,),
    )


@pytest.mark.parametrize("colour", [False, True])
def test_nothing_in_the_data_moves_the_cursor_colours_or_reorders_a_terminal(colour):
    text = terminal([view(hostile(), 10, ("slower",))], width=200, colour=colour)
    assert "[red]x[/red]" in text
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    plain = Text.from_ansi(text).plain if colour else text
    assert "\x1b" not in plain


def test_nothing_in_the_data_breaks_a_table_or_becomes_html_code_or_a_mention_in_markdown():
    text = markdown([view(hostile(), 10, ("slower",))])
    assert "<script" not in text
    assert "@everyone" not in text
    assert "#1" not in text
    assert "\x1b" not in text
    for line in text.splitlines():
        if line.startswith("| ") and "alert" in line and "---" not in line:
            assert line.replace("\\|", "").count("|") in (3, 7)  # a table of two columns, or of six
        assert "`" not in line.replace("\\`", "")
    # The only HTML is ours.
    assert set(__import__("re").findall(r"<[^>]*>", text)) <= {"<details>", "</details>", "<summary>", "</summary>"}


def test_markdown_begins_with_the_verdict_and_folds_long_lists(known):
    text = markdown([view(known, 10, ("slower",))])
    assert text.startswith("**FAILED on slower: 1 slower, 1 broken.** 1 of 4 compared pairs is slower")
    assert "<details>\n<summary>NOT-COMPARABLE (1)</summary>\n\n| pairs | reason |" in text
    assert "| matmul | bf16 | 1 | +25.0 % |" in text


def test_a_comment_never_exceeds_what_github_takes(monkeypatch):
    large = comparison([pair("SLOWER", 1.2 + i / 1e5, variant="v" * 200 + str(i), reason="r" * 250) for i in range(1000)])
    shown = view(large, 1000)
    text = markdown([shown])
    assert 20_000 < len(text) < 65_536
    assert "more rows; --format csv has all" in text
    assert len(markdown([shown] * 500)) < 65_536
    monkeypatch.setattr(markdown_module, "COMMENT_LIMIT", 800)
    assert markdown([shown] * 9).count("1,000 of 1,000 compared pairs are slower") == 2


def test_csv_has_one_line_a_pair_every_column_and_no_formula():
    file = io.StringIO()
    write_csv([comparison([pair("SAME", variant="=cmd()"), pair("SLOWER", 0.1 + 0.2, elements=2**60, reason="a,b\nc")])], file)
    lines = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert list(lines[0]) == ["base", "new", *KEY_NAMES, *PAIR_COLUMNS]
    assert [line["variant"] for line in lines] == ["'=cmd()", ""]
    assert lines[1]["ratio"] == "0.30000000000000004"
    assert lines[1]["elements"] == str(2**60)
    assert lines[1]["reason"] == "a,b | c"
    assert lines[1]["broken"] == "false"
    assert (lines[0]["base"], lines[0]["new"]) == ("old.csv", "new.csv")


def test_json_is_strict_and_says_everything(known):
    odd = comparison([pair("UNCLEAR", float("nan"), ratio_high=float("inf"), variant=HOSTILE)])
    file = io.StringIO()
    write_json([known, odd], file)

    def refuse(word):
        raise AssertionError(word)

    first, second = json.loads(file.getvalue(), parse_constant=refuse)["comparisons"]
    assert first["counts"] == dict.fromkeys(VERDICTS, 1)
    assert first["settings"]["thresholds"]["compute"] == 0.03
    assert first["new"] == {"name": "new.csv", "files": ["new.csv"], "chips": ["x"], "runs": 2, "rows": 5}
    assert first["notes"] == ["Everything moved together."]
    assert [one["verdict"] for one in first["pairs"]] == ["SAME", "SLOWER", "FASTER", "UNCLEAR", "NOT-COMPARABLE"]
    assert first["pairs"][1]["case"]["m"] == 256
    assert "elements" not in first["pairs"][1]["case"]
    assert (first["unmatched"][0]["side"], first["unmatched"][0]["reason"]) == ("base", None)
    assert second["pairs"][0]["ratio"] is None
    assert second["pairs"][0]["ratio_high"] is None
    assert second["pairs"][0]["case"]["variant"] == HOSTILE


def test_html_is_one_page_with_the_comparison_and_nothing_of_the_data_runs_in_it(tmp_path, known):
    pytest.importorskip("matplotlib", reason="the report needs the extra `report`")
    write_html([known, hostile()], tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert "SLOWER" in page
    assert "old.csv" in page
    assert "<script>alert(1)" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_chunks_of_a_large_comparison_join_without_a_seam(monkeypatch):
    import chipassay.runners.comparison.data as data

    large = comparison([pair("SAME", elements=i) for i in range(25)])
    whole_csv, whole_json = io.StringIO(), io.StringIO()
    write_csv([large], whole_csv)
    write_json([large], whole_json)
    monkeypatch.setattr(data, "CHUNK_ROWS", 10)
    parts_csv, parts_json = io.StringIO(), io.StringIO()
    write_csv([large], parts_csv)
    write_json([large], parts_json)
    assert parts_csv.getvalue() == whole_csv.getvalue()
    assert json.loads(parts_json.getvalue()) == json.loads(whole_json.getvalue())


@pytest.mark.parametrize(
    ("fail_on", "found"),
    [
        (("slower",), {"slower": 1, "broken": 1}),
        (("unclear",), {"unclear": 1}),
        (("broken",), {"broken": 1}),
        (("unmatched",), {"unmatched": 1}),
        (("not-comparable",), {"not-comparable": 1}),
        ((), {}),
    ],
)
def test_a_gate_fails_on_what_it_names_and_on_nothing_else(known, fail_on, found):
    assert failures(known, fail_on) == found
    assert exit_code([known], fail_on) == (1 if fail_on else 0)


def test_a_row_that_no_longer_runs_fails_the_gate_for_slower_ones():
    only_broken = comparison([pair("SAME"), pair("NOT-COMPARABLE", broken=True)])
    assert exit_code([only_broken], ("slower",)) == 1
    assert exit_code([only_broken], ("unclear",)) == 0


def test_a_gate_that_compared_nothing_does_not_pass():
    for nothing in (comparison([]), comparison([pair("NOT-COMPARABLE")])):
        assert exit_code([nothing], ()) == 0
        with pytest.raises(InputError, match=r"--fail-on cannot say anything: old\.csv and new\.csv have"):
            exit_code([comparison([pair("SAME")]), nothing], ("slower",))
