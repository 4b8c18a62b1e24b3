"""Training runs read from a table: any with the columns, and each mistake named by file, line and column."""

from __future__ import annotations

import pytest

from chipassay.results.errors import FileError
from chipassay.scaling.validation.rows import read_runs

from .runs import GPT_22B, run_of, write


def test_the_shipped_table_holds_every_run_once() -> None:
    runs = read_runs()
    assert len(runs) == 2120
    assert sum(run.source.startswith("vTrain") for run in runs) == 1163 + 97
    assert sum(not run.scored for run in runs) == 4


def test_a_table_without_the_optional_columns_is_read(tmp_path) -> None:
    names = ("id", "source", "chip", "measured_metric", "measured_value")
    run = read_runs(write(tmp_path / "few.csv", {name: GPT_22B[name] for name in names}))[0]
    assert (run.tp, run.seq_len, run.year, run.scored) == (None, "", None, True)
    assert run.measured_value == 1.42


@pytest.mark.parametrize("missing", ["chip", "measured_value"])
def test_a_table_without_a_needed_column_is_refused(tmp_path, missing) -> None:
    row = {name: cell for name, cell in GPT_22B.items() if name != missing}
    with pytest.raises(FileError, match=f"few.csv, line 1: the header lacks {missing}"):
        read_runs(write(tmp_path / "few.csv", row))


def test_a_misspelt_column_is_refused_and_any_other_passed_over(tmp_path) -> None:
    """Without it the microbatch would be searched over, though the source says it."""
    row = {("microbach" if name == "microbatch" else name): cell for name, cell in GPT_22B.items()}
    with pytest.raises(FileError, match=r"few.csv, line 1: unknown column 'microbach'; did you mean microbatch\?"):
        read_runs(write(tmp_path / "few.csv", row))
    assert read_runs(write(tmp_path / "more.csv", {**GPT_22B, "loss": "2.1", "read_by": "me"}))[0].microbatch == 4


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"layers": "many"}, "line 2, column layers: not a number: 'many'"),
        ({"tp": "2.5"}, "line 2, column tp: not a whole number"),
        ({"dp": "0"}, "line 2, column dp: 0 of them cannot be"),
        ({"measured_value": "-3"}, "line 2, column measured_value: not a finite number of at least 0"),
        ({"measured_value": "0"}, "column measured_value: nothing was measured"),
        ({"measured_value": ""}, "column measured_value: empty"),
        ({"measured_metric": "step_time"}, "unknown metric 'step_time'; did you mean step_time_s?"),
        ({"score": "maybe"}, "column score: 'maybe' is neither yes nor no"),
    ],
)
def test_a_cell_that_is_wrong_is_named_by_line_and_column(tmp_path, cells, words) -> None:
    with pytest.raises(FileError) as caught:
        run_of(tmp_path, **cells)
    assert words in str(caught.value)


def test_an_id_that_stands_twice_is_refused(tmp_path) -> None:
    with pytest.raises(FileError, match=r"line 3, column id: 'gpt-22b' stands in line 2, too"):
        read_runs(write(tmp_path / "twice.csv", GPT_22B, GPT_22B))


def test_settings_of_a_script_that_was_not_found_count_as_unsaid(tmp_path) -> None:
    run = run_of(tmp_path, notes="parallel settings read from the example script of the same commit NOT FOUND", flash_attention="n")
    assert (run.flash_attention, run.zero_stage, run.recompute) == ("", "", "")
