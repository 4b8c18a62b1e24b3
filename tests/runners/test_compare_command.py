"""`chipassay compare`: what readers see of a comparison, in every format, and what a gate in CI lives on."""

from __future__ import annotations

import csv
import io
import json

import pandas
import pytest
from rich.text import Text

from chipassay.results.compare.comparison import PAIR_COLUMNS, VERDICTS, Comparison, Side
from chipassay.results.errors import InputError
from chipassay.results.schema import KEY_NAMES, Row
from chipassay.results.table import TableWriter
from chipassay.runners.cli import main
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
        "1 row that was ok is no longer; 1 is faster; 1 is unclear: more samples or more runs would tell."
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
        ([pair("UNCLEAR")] * 2, "No slowdown was found in 2 compared pairs; 2 are unclear: more samples or more runs would tell."),
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


def run_file(path, time_s, run_id="r", ops=("copy",), **columns):
    """A results CSV of 30 samples a row with 0.5 % of deterministic noise around ``time_s``."""
    with TableWriter(path) as table:
        for op in ops:
            for elements in (1 << 20, 1 << 22, 1 << 24):
                median_s = time_s * elements / (1 << 20)
                samples_s = tuple(median_s * (1 + 0.005 * ((7 * i) % 11 - 5) / 5) for i in range(30))
                values = {
                    "op": op, "elements": elements, "dtype": "fp32", "cache": "cold", "kernel": "torch.copy_", "backend": "torch",
                    "status": "ok", "bytes": 8.0 * elements, "time_median_s": median_s, "samples_s": samples_s, "sample_count": 30,
                    "chip_id": "cpu-x", "device_name": "X", "device_kind": "cpu", "run_id": run_id, "method_version": 1,
                }  # fmt: skip
                table.append(Row(**{**values, **columns}))
    return path


def command(capsys, *arguments):
    code = main(["compare", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def files(tmp_path):
    return run_file(tmp_path / "old.csv", 1e-3, "a"), run_file(tmp_path / "new.csv", 1.3e-3, "b")


def test_a_slowdown_ends_with_1_only_where_the_gate_asks_for_it(capsys, files):
    old, new = files
    code, out, _ = command(capsys, old, new)
    assert (code, "3 of 3 compared pairs are slower" in out) == (0, True)
    code, out, _ = command(capsys, old, new, "--fail-on", "slower")
    assert code == 1
    assert out.splitlines()[-1] == "FAILED on slower: 3 slower."
    code, out, _ = command(capsys, new, old, "--fail-on", "slower,unmatched")
    assert code == 0
    assert out.splitlines()[-1] == "Passed: nothing of slower, unmatched."


def test_json_alone_is_on_standard_output_and_the_verdict_on_standard_error(capsys, files):
    code, out, err = command(capsys, *files, "--json", "--fail-on", "slower")
    assert code == 1
    assert json.loads(out)["comparisons"][0]["counts"]["SLOWER"] == 3
    assert "FAILED on slower: 3 slower." in err


def test_the_name_of_the_file_chooses_the_format(capsys, files, tmp_path):
    for name, begins in (("c.md", "3 of 3 compared"), ("c.csv", "base,new,op,"), ("c.json", '{"comparisons"'), ("c.txt", "base")):
        code, out, err = command(capsys, *files, "-o", tmp_path / name)
        assert (code, out) == (0, "")
        assert (tmp_path / name).read_text().startswith(begins)
        assert "slower" in err


def test_a_folder_and_paths_joined_by_commas_are_pooled_as_runs(capsys, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    run_file(folder / "1.csv", 1e-3, "a")
    run_file(folder / "2.csv", 1.001e-3, "b")
    (folder / "profile.json").write_text("{}")
    new = [run_file(tmp_path / f"n{i}.csv", 1e-3, f"n{i}") for i in range(3)]
    code, out, _ = command(capsys, folder, ",".join(map(str, new)), "--json")
    (found,) = json.loads(out)["comparisons"]
    assert code == 0
    assert (found["base"]["runs"], found["new"]["runs"]) == (2, 3)
    assert found["base"]["name"] == str(folder)
    assert found["pairs"][0]["base_runs"] == 2
    assert any("1 of 3 files hold no results and were left out: profile.json" in note for note in found["notes"])


def test_a_case_that_only_some_of_the_pooled_runs_measured_is_not_broken(capsys, tmp_path):
    old = run_file(tmp_path / "old.csv", 1e-3, "a")
    good = run_file(tmp_path / "good.csv", 1e-3, "b")
    late = run_file(tmp_path / "late.csv", 1e-3, "c", status="skipped", reason="no time", time_median_s=None, samples_s=None)
    _, out, _ = command(capsys, old, f"{good},{late}", "--json")
    assert [one["broken"] for one in json.loads(out)["comparisons"][0]["pairs"]] == [False] * 3
    code, out, _ = command(capsys, old, late, "--fail-on", "slower")
    assert (code, out.splitlines()[-1]) == (1, "FAILED on slower: 3 broken.")


def test_each_further_side_is_compared_with_the_first(capsys, files, tmp_path):
    third = run_file(tmp_path / "third.csv", 1e-3, "c")
    _, out, _ = command(capsys, *files, third, "--json")
    found = json.loads(out)["comparisons"]
    assert [(one["base"]["name"], one["new"]["name"]) for one in found] == [(str(files[0]), str(files[1])), (str(files[0]), str(third))]
    assert found[1]["counts"]["SLOWER"] == 0


def test_only_some_operations_are_compared(capsys, tmp_path):
    old = run_file(tmp_path / "old.csv", 1e-3, "a", ops=("copy", "triad"))
    new = run_file(tmp_path / "new.csv", 1e-3, "b", ops=("copy", "triad"))
    _, out, _ = command(capsys, old, new, "--only", "triad", "--json")
    (found,) = json.loads(out)["comparisons"]
    assert {one["case"]["op"] for one in found["pairs"]} == {"triad"}
    assert found["unmatched"] == []


def test_partners_may_differ_in_what_is_ignored(capsys, tmp_path):
    old = run_file(tmp_path / "old.csv", 1e-3, "a")
    new = run_file(tmp_path / "new.csv", 0.5e-3, "b", backend="triton", kernel="triton.copy")
    assert "no case is on both sides" in command(capsys, old, new)[1]
    _, out, _ = command(capsys, old, new, "--ignore", "backend,kernel")
    assert "No slowdown was found in 3 compared pairs; 3 are faster." in out


def test_a_threshold_decides_what_matters(capsys, tmp_path):
    old, new = run_file(tmp_path / "old.csv", 1e-3, "a"), run_file(tmp_path / "new.csv", 1.05e-3, "b")
    assert command(capsys, old, new, "--fail-on", "slower")[0] == 1
    assert command(capsys, old, new, "--fail-on", "slower", "--threshold", "8%")[0] == 0
    assert command(capsys, old, new, "--fail-on", "slower", "--threshold", "memory=8%")[0] == 0
    assert command(capsys, old, new, "--fail-on", "slower", "--threshold", "compute=8%")[0] == 1


def test_a_gate_without_a_common_case_ends_with_2_after_showing_why(capsys, files, tmp_path):
    other = run_file(tmp_path / "other.csv", 1e-3, "c", ops=("triad",))
    code, out, err = command(capsys, files[0], other, "--fail-on", "slower")
    assert code == 2
    assert "Without a partner (6)" in out
    assert out.splitlines()[-1] == "FAILED: what compared nothing does not pass."
    assert f"--fail-on cannot say anything: {files[0]} and {other} have not a single pair" in err
    code, out, _ = command(capsys, files[0], other, "--fail-on", "slower", "--json")
    assert (code, json.loads(out)["kind"]) == (2, "InputError")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["old.csv"], "a comparison needs two sides: chipassay compare BASE NEW"),
        (["old.csv", "nowhere.csv"], "nowhere.csv: cannot be read (No such file or directory); give a file or a folder with results"),
        (["old.csv", "empty"], "empty: no file with results lies directly in it"),
        (["old.csv", "new.csv", "--ignore", "kernle"], "unknown column to ignore 'kernle'; did you mean kernel?"),
        (["old.csv", "new.csv", "--ignore", "op"], "--ignore op would compare different operations"),
        (["old.csv", "new.csv", "--only", "coppy"], "unknown op 'coppy'; did you mean copy?"),
        (["old.csv", "new.csv", "--format", "html"], "--format html needs a file: -o comparison.html"),
        (["old.csv", "new.csv", "--self-test"], "--self-test compares this machine with itself"),
        (["old.csv", "new.csv", "-o", "empty"], "cannot be written"),
    ],
)
def test_bad_input_ends_with_2_and_names_the_mend(capsys, files, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, out, err = command(capsys, *arguments)
    assert code == 2
    assert complaint in err
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--threshold", "3"], "'3' is not a share between 0% and 100%; write 3%"),
        (["--threshold", "speed=3%"], "'speed' is no kind of metric; known: compute, memory, link, collective, overhead"),
        (["--threshold", "compute=3%,5%"], "'5%' is not KIND=SHARE; write compute=2%"),
        (["--threshold", "nan%"], "is not a share"),
        (["--alpha", "2"], "'2' is not a chance between 0 and 0.5; write 0.01"),
        (["--fail-on", "slow"], "'slow' is nothing to fail on; known: slower, unclear, broken, unmatched, not-comparable"),
        (["--fail-on", ""], "name what to fail on"),
        (["--top", "-1"], "is not a number of rows"),
        (["--runs", "5"], "'5' is not an even number of runs; write 4 to 12"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_explained(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as ended:
        main(["compare", "a", "b", *arguments])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
