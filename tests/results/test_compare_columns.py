"""Rows as columns: the fast reading says what the strict one says, or leaves the word to it; and who is whose partner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.compare import columns as columns_module
from chipassay.results.compare.columns import columns_of_rows, joined, read_columns
from chipassay.results.compare.compare import compare
from chipassay.results.compare.comparison import Settings
from chipassay.results.errors import FileError, InputError
from chipassay.results.schema import NAMES, Row
from chipassay.results.table import TableWriter, read_rows

WORDS = (
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8).map(str.strip).filter(bool)
)
TIMES = st.floats(1e-9, 1e3)
ROWS = st.builds(
    Row,
    op=st.sampled_from(["matmul", "copy", "all_reduce"]),
    status=st.sampled_from(["ok", "skipped"]),
    run_id=st.none() | WORDS,
    chip_id=st.none() | WORDS,
    device_index=st.none() | st.integers(0, 7),
    m=st.none() | st.integers(1, 4),
    causal=st.none() | st.booleans(),
    variant=st.none() | WORDS,
    reason=st.none() | WORDS,
    schema_version=st.just(1),
    time_median_s=st.none() | TIMES,
    peak_fraction=st.none() | st.floats(0, 2),
    samples_s=st.none() | st.lists(TIMES, min_size=1, max_size=4).map(tuple),
)


@pytest.fixture
def always_fast(monkeypatch):
    """Small files are read as large ones are; what has to be read strictly fails the test."""
    monkeypatch.setattr(columns_module, "STRICT_BELOW_BYTES", 0)
    monkeypatch.setattr(columns_module, "CHUNK_ROWS", 3)


def written(path, rows):
    with TableWriter(path) as table:
        table.extend(rows)
    return path


def plain(columns):
    frame = columns.frame.drop(columns="file").astype(object)
    frame = frame.where(frame.notna(), None)
    parts = [tuple(columns.samples_s[a:b]) for a, b in zip(columns.starts, columns.starts[1:], strict=False)]
    return [(*line, samples) for line, samples in zip(frame.itertuples(index=False, name=None), parts, strict=True)]


@given(st.lists(ROWS, min_size=1, max_size=8))
@settings(derandomize=True, max_examples=40, deadline=None)
def test_the_fast_reading_gives_what_the_strict_one_gives(tmp_path_factory, rows):
    path = written(tmp_path_factory.mktemp("fast") / "t.csv", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns_module, "CHUNK_ROWS", 3)
        fast = columns_module._read_fast(path)
    assert fast is not None
    assert plain(fast) == plain(columns_of_rows(read_rows(path), "strict"))


GOOD = [Row(op="copy", status="ok", m=i, time_median_s=1e-3, samples_s=(1e-3, 2e-3), schema_version=1) for i in range(9)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("0.002", "0.00x2", 1),
        lambda text: text.replace(",ok,", ",fine,", 1),
        lambda text: text.replace("0.001,", "fast,", 1),
        lambda text: text.replace("\ncopy", "\n", 1).replace("copy", "", 1),
        lambda text: text.replace("\n", ",\n", 3),
        lambda text: text.replace(",ok,", ",ok", 1),
        lambda text: text.replace(",ok,", ',"ok,', 1),
        lambda text: text.replace("variant", "variante", 1),
        lambda text: text.replace("variant", "op", 1),
        lambda text: text.replace("copy", "co\0py", 1),
        lambda text: text.replace("\n1,", "\n99,", 1),
        lambda text: text.replace("0.002", "-0.002", 1),
        lambda text: text.replace("0.002", "1e999", 1),
        lambda text: text.replace(",0.001,", ",-0.001,", 1),
        lambda text: text.replace(",2,", ",2.5,", 1),
    ],
)
def test_what_is_wrong_in_a_large_file_is_told_as_in_a_small_one(tmp_path, always_fast, damage):
    path = written(tmp_path / "t.csv", GOOD)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(FileError) as strict:
        read_rows(path)
    with pytest.raises(FileError) as fast:
        read_columns([path])
    assert str(fast.value) == str(strict.value)


def test_a_last_line_that_was_cut_short_does_not_count_in_a_large_file_either(tmp_path, always_fast):
    path = written(tmp_path / "t.csv", GOOD)
    path.write_bytes(path.read_bytes()[:-20])
    assert len(read_columns([path])) == len(GOOD) - 1


def test_columns_of_ones_own_and_other_orders_are_read(tmp_path, always_fast):
    path = tmp_path / "t.csv"
    path.write_text("status,x_mine,op,samples_s,m\nok,a,copy,1.0 2.0,7\nok,b,copy,,\n")
    found = read_columns([path])
    assert (found.frame["m"].tolist()[0], found.frame["m"].isna().tolist()) == (7, [False, True])
    assert (found.samples_s.tolist(), found.starts.tolist()) == ([1.0, 2.0], [0, 2, 2])


def test_files_without_a_row_are_an_error(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",".join(NAMES) + "\n")
    with pytest.raises(InputError, match="no row in there; measure some with `chipassay run`"):
        read_columns([path])


def row(case=0, time_s=1e-3, **more):
    samples = tuple(time_s * (1 + 1e-4 * np.arange(12)))
    given = {"op": "matmul", "m": case, "status": "ok", "run_id": "a", "chip_id": "chip", "kernel": "torch.mm", "backend": "torch"}
    return Row(**{**given, "samples_s": samples, "time_median_s": float(np.median(samples)), **more})


def compared(base, new, **chosen):
    return compare(columns_of_rows(base, "base"), columns_of_rows(new, "new"), Settings(**chosen))


def test_rows_find_their_partners_by_case_and_the_rest_is_listed():
    found = compared([row(0), row(1), row(2)], [row(2), row(0), row(3)])
    assert found.pairs["m"].tolist() == [0, 2]
    assert sorted(zip(found.unmatched["side"], found.unmatched["m"], strict=True)) == [("base", 1), ("new", 3)]


def test_the_last_row_of_a_case_in_a_run_counts():
    found = compared([row(0, 5.0), row(0, 1.0)], [row(0, 1.0)])
    assert found.pairs["ratio"].tolist() == pytest.approx([1.0])
    assert found.pairs["base_runs"].tolist() == [1]


def test_several_chips_of_a_side_are_kept_apart():
    base = [row(0, 1.0, chip_id="a100"), row(0, 0.5, chip_id="h100")]
    found = compared(base, [row(0, 1.0, chip_id="a100"), row(0, 0.5, chip_id="h100")])
    assert found.pairs["ratio"].tolist() == pytest.approx([1.0, 1.0])
    assert found.pairs["base_chip"].tolist() == found.pairs["new_chip"].tolist() == ["a100", "h100"]


def test_one_chip_a_side_may_be_another_chip():
    found = compared([row(0, 1.0, chip_id="a100")], [row(0, 0.5, chip_id="h100")])
    assert found.pairs["ratio"].tolist() == pytest.approx([0.5])
    assert found.notes[0] == "The chips differ: a100 against h100."


def test_each_gpu_of_a_machine_has_its_own_partner():
    side = [row(0, 1.0, device_index=0), row(0, 2.0, device_index=1)]
    assert compared(side, side).pairs["ratio"].tolist() == pytest.approx([1.0, 1.0])
    assert compared(side, [row(0, 1.0, device_index=1)]).pairs["ratio"].tolist() == pytest.approx([0.5])


def test_with_columns_ignored_the_fastest_correct_row_of_each_side_counts():
    base = [row(0, 3.0, kernel="slow"), row(0, 2.0, kernel="fast"), row(0, 1.0, kernel="wrong", status="incorrect")]
    new = [row(0, 1.0, kernel="mine", backend="triton")]
    assert len(compared(base, new).pairs) == 0
    found = compared(base, new, ignored=("kernel", "backend"))
    assert found.pairs["ratio"].tolist() == pytest.approx([0.5])
    assert found.pairs["verdict"].tolist() == ["FASTER"]


def test_a_cold_row_whose_partner_is_there_does_not_meet_a_warm_one():
    base, new = [row(0, 1.0, cache="cold")], [row(0, 0.5, cache="warm"), row(0, 1.0, cache="cold")]
    found = compared(base, new)
    assert found.pairs["ratio"].tolist() == pytest.approx([1.0])
    assert found.unmatched["cache"].tolist() == ["warm"]


def test_two_files_of_the_same_run_are_one_run_and_files_without_a_run_are_each_their_own():
    parts = [columns_of_rows([row(0, run_id=None)], name) for name in ("a.csv", "b.csv")]
    assert compare(joined(*parts), parts[0]).pairs["base_runs"].tolist() == [2]
    same = [columns_of_rows([row(0, run_id="x")], name) for name in ("a.csv", "b.csv")]
    assert compare(joined(*same), parts[0]).pairs["base_runs"].tolist() == [1]
