"""`chipassay compare` from files to exit code: sides, folders, gates, and arguments that cannot be meant."""

from __future__ import annotations

import json

import pytest

from chipassay.results.schema import Row
from chipassay.results.table import TableWriter
from chipassay.runners.cli import main


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


def test_pytest_benchmark_s_json_is_a_side_beside_our_own_files(capsys, tmp_path):
    def saved(name, time_s, samples=True):
        data = [time_s * (1 + 0.005 * ((7 * i) % 11 - 5) / 5) for i in range(30)]
        stats = {"min": min(data), "max": max(data), "mean": time_s, "median": time_s, "stddev": time_s / 200, "rounds": 30}
        stats |= {"data": data} if samples else {}
        one = {"name": "test_mm", "fullname": "test_x.py::test_mm", "group": None, "params": None, "param": None, "extra_info": {},
               "options": {}, "stats": stats}  # fmt: skip
        machine = {"node": "n", "machine": "x86_64", "cpu": {"brand_raw": "X"}}
        whole = {"machine_info": machine, "commit_info": {}, "benchmarks": [one], "datetime": "2026-01-01T00:00:00", "version": "5.1.0"}
        (tmp_path / name).write_text(json.dumps(whole))
        return tmp_path / name

    ours = run_file(tmp_path / "ours.csv", 1e-3, "a")
    base = f"{ours},{saved('old.json', 1e-3)}"
    code, out, _ = command(capsys, base, saved("new.json", 1.5e-3), "--fail-on", "slower")
    assert code == 1
    assert "1 of 1 compared pair is slower" in out
    assert "only in the base: copy" in out
    bare = [saved(name, time_s, samples=False) for name, time_s in (("old.json", 1e-3), ("new.json", 1.5e-3))]
    code, out, err = command(capsys, *bare, "--fail-on", "slower")
    assert code == 2
    assert "No slowdown is certain in 1 compared pair; 1 is unclear" in out
    assert "+50.0 %" in out.split("Unclear, but apart by more than the threshold (1)")[1]
    assert "no pair with samples or an interval on both sides; save samples (pytest-benchmark: --benchmark-json)" in err
    assert command(capsys, *bare, "--fail-on", "unclear")[0] == 1
    assert command(capsys, *bare, "--fail-on", "unmatched")[0] == 0


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
    assert out.splitlines()[-1] == "FAILED: not a single pair; compare files with the same cases, measured the same way."
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
