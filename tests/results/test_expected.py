"""The expected-value table: every figure has a chip, a unit, a tolerance and a source, and mistakes are named by line and column."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from chipassay.results.catalogue import load_chips
from chipassay.results.errors import FileError
from chipassay.results.expected import COLUMNS, EXPECTED_CSV, METRICS, expected_of, load_expected
from chipassay.results.published_rows import load_published


def lines() -> list[dict[str, str]]:
    with EXPECTED_CSV.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_figure_is_read_and_none_is_left_out() -> None:
    assert len(load_expected()) == len(lines()) > 400


def test_figures_from_the_sources_stand_where_they_were_read() -> None:
    """Spot checks by hand: Azure's H100 page, ml-engineering's table, NVIDIA's slide, FlashAttention's chart."""

    def figures(chip_id: str, op: str, **known: object) -> set[float]:
        return {one.value for one in expected_of(chip_id, op) if all(getattr(one, name) == value for name, value in known.items())}

    assert figures("h100-sxm-80gb", "all_reduce", size_bytes=2**30, group_size=8) == {466.35e9}
    assert figures("a100-pcie-80gb", "matmul", dtype="bf16") == {252.9e12}
    assert figures("v100-sxm3-32gb", "all_reduce") == {122e9}
    assert figures("h100-sxm-80gb", "attention", implementation="flash-attention-3", seq=16384, head_dim=128, causal=False) == {648e12}
    assert figures("h200-sxm-141gb", "transfer", path="host_to_device") == {55.43e9}


def test_no_figure_is_above_what_its_chip_can_do() -> None:
    for one in load_expected():
        chip = load_chips()[one.chip_id]
        if one.metric == "rate_flops_per_s":
            peak = chip.peak_flops_per_s.get(one.dtype)
            assert peak is None or one.value <= 1.05 * peak, one
        elif one.op in ("copy", "scale", "triad", "read"):
            assert one.value <= (chip.memory_bandwidth_bytes_per_s or 0.0), one
        elif one.fabric == "nvlink" and one.metric == "busbw_bytes_per_s":
            # In a ring at most the link's; by in-switch reduction n ranks may show 2 (n - 1) / (n + 1) times the link.
            ranks = one.group_size or 2
            assert one.value <= (chip.link_bytes_per_s_one_way or 0.0) * max(1.0, 2 * (ranks - 1) / (ranks + 1)), one


def test_the_best_of_many_shapes_agrees_with_the_summaries_that_ship() -> None:
    """published.csv carries the same bests: the two tables must not drift apart."""
    best = {(row.chip_id, row.dtype): row.rate_per_s for row in load_published() if row.op == "matmul" and "MAMF" in row.source}
    ours = {(one.chip_id, one.dtype): one.value for one in load_expected() if one.op == "matmul" and "best of many" in one.conditions}
    assert best
    assert ours == pytest.approx(best)


def test_targets_are_no_measurements() -> None:
    assert {one.bound for one in load_expected() if "pass level" in one.conditions} == {"min"}


def test_low_trust_figures_have_wide_tolerances() -> None:
    assert all(one.tolerance >= 0.15 for one in load_expected() if one.trust == "low")


def written(path: Path, **changes: str) -> Path:
    good = dict.fromkeys(COLUMNS, "")
    good.update(
        chip_id="a100-sxm-80gb", form_factor="SXM4", fabric="single", node_count="1", op="copy", metric="bandwidth_bytes_per_s",
        value="1610", unit="GB/s", bound="typical", tolerance="0.05", evidence="published", trust="high", source="somewhere",
    )  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow({**good, **changes})
    return path


def test_a_good_line_is_read(tmp_path: Path) -> None:
    (row,) = load_expected(written(tmp_path / "expected.csv"))
    assert row.value == 1610e9
    assert row.shape is None
    assert row.causal is None


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("chip_id", "a1000", "no chip of the catalogue"),
        ("form_factor", "PCIe", "'SXM4' in chips.csv"),
        ("fabric", "cable", "not one of"),
        ("node_count", "", "at least one node"),
        ("metric", "speed", "not one of"),
        ("unit", "TFLOP/s", "not one of GB/s"),
        ("value", "", "above 0"),
        ("value", "fast", "not a number"),
        ("tolerance", "1.5", "below 1"),
        ("tolerance", "", "below 1"),
        ("bound", "usual", "not one of"),
        ("evidence", "found", "not one of"),
        ("trust", "some", "not one of"),
        ("source", "", "empty"),
        ("causal", "yes", "not one of"),
        ("m", "1.5", "not a whole number"),
    ],
)
def test_a_mistake_is_named_by_line_and_column(tmp_path: Path, column: str, value: str, words: str) -> None:
    with pytest.raises(FileError, match="line 2") as caught:
        load_expected(written(tmp_path / "expected.csv", **{column: value}))
    assert caught.value.field == column
    assert words in str(caught.value)


def test_a_collective_without_a_group_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="group of at least 2"):
        load_expected(written(tmp_path / "e.csv", op="all_reduce", fabric="nvlink", metric="busbw_bytes_per_s"))


def test_a_figure_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "expected.csv")
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(FileError, match="twice"):
        load_expected(path)


def test_every_metric_is_a_column_of_the_results_table() -> None:
    from chipassay.results.schema import NAMES

    assert set(METRICS) <= set(NAMES)
