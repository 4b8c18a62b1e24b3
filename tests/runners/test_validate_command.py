"""`chipassay validate`: tables, a CSV, JSON, a picture, and words that help when something is wrong."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from chipassay.runners.cli import main
from chipassay.runners.report.validation_picture import source_group
from chipassay.scaling.validation.rows import TRAINING_RUNS

KORTHIKANTI = "Korthikanti et al. 2022 (arXiv 2205.05198) Table 5"


def run(capsys, *arguments):
    code = main(["validate", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_tables_tell_source_chip_regime_and_the_headline(capsys) -> None:
    code, out, _ = run(capsys, "--source", KORTHIKANTI)
    assert code == 0
    for words in ("By source", KORTHIKANTI, "By chip", "a100-sxm-80gb", "By regime", "7 of 7 runs predicted, 7 scored"):
        assert words in out
    assert "Mean over 1 sources of the median |error|" in out


def test_the_csv_has_a_line_for_every_run_in_the_source_s_own_unit(capsys, tmp_path) -> None:
    out = tmp_path / "validated.csv"
    assert run(capsys, "--source", "llm-foundry MPT training benchmarks: H100 80GB FP8", "--out", out)[0] == 0
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = ["id", "source", "chip", "metric", "measured", "predicted", "low", "high", "error", "in_sample", "reason"]
    assert list(rows[0])[: len(columns)] == columns
    assert len(rows) == 6
    for row in rows:
        measured, predicted, low, high, error = (float(row[name]) for name in ("measured", "predicted", "low", "high", "error"))
        assert row["metric"] == "tokens_per_s_per_gpu"
        assert low < predicted < high
        assert measured / predicted - 1 == pytest.approx(error, rel=1e-3)  # a rate that is too high is a step that is too short


def test_runs_that_cannot_be_predicted_are_listed_with_the_reason(capsys) -> None:
    code, out, _ = run(capsys, "--source", "TensorFlow 1.x benchmarks page (synthetic")
    assert code == 0
    assert "Not predicted" in out
    assert "not a transformer" in out
    assert "nothing to judge the model by" in out


def test_json_is_one_array_of_records(capsys) -> None:
    code, out, _ = run(capsys, "--json", "--source", "GPT-NeoX")
    (record,) = json.loads(out)
    assert code == 0
    assert record["id"] == "neox20b"
    assert record["low"] < record["predicted"] < record["high"]


def test_another_table_with_those_columns_is_taken(capsys, tmp_path) -> None:
    mine = tmp_path / "mine.csv"
    lines = TRAINING_RUNS.read_text(encoding="utf-8").splitlines(keepends=True)
    mine.write_text(lines[0] + next(line for line in lines if line.startswith("kort22-22B-full")), encoding="utf-8")
    code, out, _ = run(capsys, "--runs", mine)
    assert code == 0
    assert "1 of 1 runs predicted" in out


def test_one_chip_alone_is_told(capsys) -> None:
    code, out, _ = run(capsys, "--source", "Megatron-LM README Sept 2020, model-parallel", "--chip", "v100-sxm3-32gb")
    assert code == 0
    assert "3 of 3 runs predicted" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "no such paper"], "no source of the table holds that text"),
        (["--runs", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["--source", "GPT-NeoX", "--chip", "a100"], "unknown chip of these runs 'a100'; did you mean a100-sxm-40gb?"),
        (["--picture", "scatter.gif"], "end its name in .svg or .png"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(capsys, arguments, words) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_picture_is_drawn_and_the_same_each_time(capsys, tmp_path, suffix) -> None:
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    for path in (first, second):
        assert run(capsys, "--source", KORTHIKANTI, "--picture", path)[0] == 0
    assert first.read_bytes() == second.read_bytes()
    if suffix == "svg":
        assert "Korthikanti: 7, median" in first.read_text(encoding="utf-8")


def test_sources_of_one_publication_have_one_colour() -> None:
    with TRAINING_RUNS.open(newline="", encoding="utf-8") as file:
        sources = {row["source"] for row in csv.DictReader(file)}
    groups = {source_group(source) for source in sources}
    assert {"vTrain", "MosaicML llm-foundry", "Megatron-LM", "torchtitan"} <= groups
    assert len(groups) < len(sources)


def test_the_command_needs_no_file_of_its_own_checkout(capsys, tmp_path, monkeypatch) -> None:
    copy = tmp_path / "runs.csv"
    shutil.copy(TRAINING_RUNS, copy)
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "--runs", "runs.csv", "--source", "GPT-NeoX")[0] == 0


def test_mixed_clusters_have_a_table_of_their_own(capsys, tmp_path) -> None:
    out = tmp_path / "mixed.csv"
    code, told, _ = run(capsys, "--mixed", "--source", "Sailor", "--out", out)
    assert code == 0
    assert "8 runs" in told
    assert "inside the 80 % interval" in told
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["scored"] for row in rows].count("yes") == 8
    first = rows[0]
    assert float(first["error"]) == pytest.approx(float(first["predicted"]) / float(first["measured"]) - 1, abs=1e-4)


@pytest.mark.parametrize(("flag", "value"), [("--chip", "t4-pcie-16gb"), ("--picture", "x.png"), ("--runs", "x.csv")])
def test_what_mixed_clusters_do_not_have_is_refused(capsys, flag, value) -> None:
    code, _, told = run(capsys, "--mixed", flag, value)
    assert code == 2
    assert f"{flag} is for clusters of one kind of chip" in told
