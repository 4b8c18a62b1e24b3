"""`chipassay check`: what is printed, what programs read, and the exit code that a gate lives on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chipassay.results.schema import Row
from chipassay.results.table import TableWriter
from chipassay.runners.cli import main

HOSTILE = "H100\x1b[2J [red]x[/red] <b> `c` |"


def table(path: Path, *rows: Row) -> str:
    with TableWriter(path) as writer:
        for row in rows:
            writer.append(row)
    return str(path)


def product(tflop_per_s: float, **more: Any) -> Row:
    case: dict[str, Any] = {
        "op": "matmul",
        "dtype": "bf16",
        "m": 8192,
        "n": 8192,
        "k": 8192,
        "kernel": "torch.mm",
        "chip_id": "h100-sxm-80gb",
    }
    flops = 2.0 * 8192**3
    return Row(schema_version=1, status="ok", flops=flops, time_median_s=flops / tflop_per_s / 1e12, **case | more)


@pytest.mark.parametrize(
    ("tflop_per_s", "fail_on", "code"),
    [
        (760.0, "warning", 0),
        (600.0, "warning", 1),
        (600.0, "fault", 0),
        (400.0, "fault", 1),
        (400.0, "impossible", 0),
        (9e3, "impossible", 1),
    ],
)
def test_the_exit_code_follows_the_gravest_finding(tmp_path: Path, tflop_per_s: float, fail_on: str, code: int) -> None:
    assert main(["check", table(tmp_path / "a.csv", product(tflop_per_s)), "--fail-on", fail_on]) == code


def test_a_fault_fails_without_being_asked(tmp_path: Path) -> None:
    assert main(["check", table(tmp_path / "a.csv", product(400.0))]) == 1


def test_the_machine_comes_first_then_rows_worst_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [product(700.0, time_p05_s=1.0, time_p95_s=3.0), product(400.0, run_id="2"), product(9e3, m=4096), product(10.0, chip_id="x")]
    main(["check", table(tmp_path / "a.csv", *rows)])
    out = capsys.readouterr().out
    words = (
        "h100-sxm-80gb, x: impossible",
        "nothing is known of x",
        "4 rows: 3 held against",
        "above-peak",
        "compute-far-below",
        "wide-spread",
    )
    places = [out.index(part) for part in words]
    assert places == sorted(places)
    assert "likely:" in out
    assert "try:" in out


def test_the_evidence_behind_expectations_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", table(tmp_path / "a.csv", product(760.0), product(740.0, m=7168))])
    assert "2 of them against an expected value (1 published, 1 derived)" in capsys.readouterr().out


def test_rows_alike_are_told_once_unless_all_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "a.csv", *(product(400.0, run_id=str(i)) for i in range(9)))
    main(["check", path])
    assert "and 6 more (--all)" in capsys.readouterr().out
    main(["check", path, "--all"])
    assert capsys.readouterr().out.count("where 753.3 TFLOP/s is published") == 9


def test_json_holds_everything_and_no_infinity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pass_level = product(300.0, chip_id="mi300x-192gb", m=4096, n=4096)
    assert main(["check", table(tmp_path / "a.csv", product(400.0), pass_level), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["severity"], told["rows"], told["expected"]) == ("fault", 2, 2)
    assert {finding["rule"] for finding in told["findings"]} == {"compute-far-below"}
    level = next(finding for finding in told["findings"] if finding["row"]["chip_id"] == "mi300x-192gb")
    assert level["expectation"]["high"] is None
    assert level["expectation"]["value"] == 500e12


def test_several_files_are_one_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [table(tmp_path / f"{i}.csv", product(700.0 / (1.4 if i == 2 else 1.0), host_hash=f"host{i}", run_id="r")) for i in range(4)]
    assert main(["check", *paths]) == 1
    assert "host host2 is 40 % slow" in capsys.readouterr().out


def test_files_of_other_tools_are_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Path(__file__).with_name("importers") / "data" / "nvbandwidth_v08_pairs.json"
    main(["check", str(data)])
    assert "h100-sxm-80gb" in capsys.readouterr().out


@pytest.mark.parametrize("extra", [[], ["--format", "markdown"], ["--json"]])
def test_what_cells_hold_does_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]) -> None:
    row = product(
        400.0,
        kernel=HOSTILE,
        variant=HOSTILE,
        device_name=f"{HOSTILE} MIG 1g.10gb",
        chip_id=f"mig {HOSTILE}",
        time_p05_s=1.0,
        time_p95_s=3.0,
    )
    main(["check", table(tmp_path / "a.csv", row), *extra])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    if extra == ["--format", "markdown"]:
        assert "<b>" not in out
        assert all(line.count("|") - line.count("\\|") == 3 for line in out.splitlines() if line.startswith("|"))


def test_rules_of_ones_own_are_used_and_their_mistakes_are_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text('[[rule]]\nid = "compute-far-below"\nseverity = "ok"\n')
    assert main(["check", table(tmp_path / "a.csv", product(400.0)), "--rules", str(rules)]) == 0
    rules.write_text('[[rule]]\nid = "compute-far-below"\nbelow = "low"\n')
    assert main(["check", str(tmp_path / "a.csv"), "--rules", str(rules)]) == 2
    assert "mine.toml: rule 'compute-far-below'" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    assert main(["check", str(tmp_path / "none.csv")]) == 2
