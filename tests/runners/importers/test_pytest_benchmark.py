"""pytest-benchmark's JSON of three generations, chipassay's own rows inside it, and what is broken."""

from __future__ import annotations

import contextlib
import copy
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.cells import to_text
from chipassay.results.errors import FileError
from chipassay.results.schema import NAMES, Row
from chipassay.runners.importers.importer import Hints, recognise
from chipassay.runners.importers.pytest_benchmark import read

# From the plugin's own tests/test_storage (ionelmc/pytest-benchmark, 2015): no CPU, no params, no data, another order of keys.
OF_2015 = {
    "commit_info": {"id": "b87b9aae14ff14a7887a6bbaa9731b9a8760555d", "dirty": True},
    "machine_info": {
        "python_version": "2.7.3",
        "python_implementation": "CPython",
        "processor": "x86_64",
        "machine": "x86_64",
        "system": "Linux",
        "node": "minibox",
        "release": "3.13.0-55-generic",
    },
    "version": "2.5.0",
    "benchmarks": [
        {
            "options": {"timer": "time", "warmup": False, "min_rounds": 5},
            "group": None,
            "fullname": "tests/test_normal.py::test_xfast_parametrized[0]",
            "name": "test_xfast_parametrized[0]",
            "stats": {
                "rounds": 10755,
                "max": 3.4091575294020072e-06,
                "median": 2.2016643907464864e-07,
                "q3": 2.2016643907464864e-07,
                "q1": 2.178849215712844e-07,
                "min": 2.1731454219544334e-07,
                "outliers": "329;2506",
                "iterations": 418,
            },
        }
    ],
    "datetime": "2015-08-14T16:06:07.146833",
}

TIMES_S = [
    *(0.00022939600000002058, 6.26045000000075e-05, 1.5270499999997522e-05, 7.602049999999583e-05, 1.597949999998516e-05),
    *(1.431250000000217e-05, 1.4000000000014001e-05, 1.49789999999983e-05, 1.4353999999994205e-05, 1.5020999999976192e-05),
]

# From the tests of conbench (benchadapt/python/tests/adapters/test_pytest.py), pytest-benchmark 4.0.0 on a Mac, with raw times.
OF_2022: dict[str, Any] = {
    "machine_info": {
        "node": "foo.local",
        "processor": "arm",
        "machine": "arm64",
        "python_implementation": "CPython",
        "python_implementation_version": "3.9.13",
        "release": "21.6.0",
        "system": "Darwin",
        "cpu": {"arch": "ARM_8", "count": 10, "arch_string_raw": "arm64", "brand_raw": "Apple M3 Pro"},
    },
    "commit_info": {"id": "0" * 40, "dirty": True, "project": "conbench", "branch": "main"},
    "benchmarks": [
        {
            "group": None,
            "name": "test_init",
            "fullname": "tests/adapters/test_pytest.py::test_init",
            "params": None,
            "param": None,
            "extra_info": {},
            "options": {"disable_gc": False, "timer": "perf_counter"},
            "stats": {"median": 1.5145749999986857e-05, "rounds": 10, "data": TIMES_S, "iterations": 2},
        },
    ],
    "datetime": "2022-10-27T19:15:37.605810",
    "version": "4.0.0",
}


def saved(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document, indent=4), encoding="utf-8")
    return path


def changed(**benchmark: Any) -> dict[str, Any]:
    """The file of 2022 with other fields in its benchmark."""
    document = copy.deepcopy(OF_2022)
    document["benchmarks"][0].update(benchmark)
    return document


def test_a_file_of_2015_gives_median_and_quartiles(tmp_path: Path) -> None:
    path = saved(tmp_path / "0030_b87b9aa.json", OF_2015)
    importer = recognise(path)
    assert importer is not None
    assert importer.kind == "pytest-benchmark"
    (row,) = importer.read(path, Hints()).rows
    assert (row.op, row.kernel) == ("benchmark", "tests/test_normal.py::test_xfast_parametrized[0]")
    assert (row.time_median_s, row.time_p25_s, row.time_p75_s) == (2.2016643907464864e-07, 2.178849215712844e-07, 2.2016643907464864e-07)
    assert (row.sample_count, row.calls_per_sample, row.samples_s) == (10755, 418, None)
    assert (row.tool, row.tool_version) == ("pytest-benchmark", "2.5.0")
    assert row.measured_at_utc == "2015-08-14T16:06:07+00:00"
    assert row.host_hash != "minibox"
    assert row.reason == "commit b87b9aae14ff14a7887a6bbaa9731b9a8760555d with uncommitted changes"


def test_raw_times_become_samples_in_time_order(tmp_path: Path) -> None:
    (row,) = read(saved(tmp_path / "r.json", OF_2022), Hints()).rows
    assert row.samples_s == tuple(TIMES_S)
    assert row.time_median_s == pytest.approx(statistics.median(TIMES_S), rel=1e-12)
    assert (row.sample_count, row.calls_per_sample, row.time_min_s) == (10, 2, min(TIMES_S))
    assert (row.device_kind, row.device_name, row.chip_id) == ("cpu", "Apple M3 Pro", "cpu-apple-m3-pro")
    assert (row.libraries, row.driver) == ("cpython=3.9.13", "Darwin 21.6.0")
    assert row.reason == f"commit {'0' * 40} of branch main with uncommitted changes"


def test_a_file_without_machine_is_known_by_its_benchmarks(tmp_path: Path) -> None:
    path = saved(tmp_path / "r.json", {"benchmarks": OF_2022["benchmarks"], "version": "5.3.0"})
    importer = recognise(path)
    assert importer is not None
    (row,) = importer.read(path, Hints(chip_id="my-cpu", device_name="My CPU")).rows
    assert (row.chip_id, row.device_name, row.host_hash, row.measured_at_utc) == ("my-cpu", "My CPU", None, None)


def test_parameters_name_the_case(tmp_path: Path) -> None:
    (row,) = read(saved(tmp_path / "r.json", changed(params={"n": 10, "dtype": "fp32", "flag": True, "shape": [2, 3]})), Hints()).rows
    assert row.variant == "n=10;dtype=fp32;flag=true;shape=[2, 3]"


def test_the_same_benchmark_twice_is_two_runs(tmp_path: Path) -> None:
    document = {**OF_2022, "benchmarks": OF_2022["benchmarks"] * 2}
    first, second = read(saved(tmp_path / "r.json", document), Hints()).rows
    assert first.run_id != second.run_id


def test_what_has_no_column_is_told(tmp_path: Path) -> None:
    imported = read(saved(tmp_path / "r.json", changed(extra_info={"gpu": "none"}, cprofile=[{"ncalls": "1"}])), Hints())
    assert len(imported.rows) == 1
    assert [sentence.split(":")[0] for sentence in imported.unmapped] == ["extra_info 'gpu'", "a cProfile"]
    nothing = read(saved(tmp_path / "n.json", changed(stats={"rounds": 3})), Hints())
    assert nothing.rows == ()
    assert nothing.unmapped == ("benchmark without a median or raw times (tests/adapters/test_pytest.py::test_init)",)


OURS = Row(
    schema_version=1,
    run_id="abc",
    chip_id="t4-pcie-16gb",
    device_kind="cuda",
    op="matmul",
    m=64,
    n=64,
    k=64,
    layout="nt",
    dtype="bf16",
    backend="torch",
    kernel="=cmd()",
    time_median_s=1.5e-05,
    samples_s=(1e-05, 2e-05),
    causal=False,
    status="ok",
    reason="two\nlines",
)


def cells_of(row: Row) -> dict[str, str]:
    return {name: text for name in NAMES if (text := to_text(getattr(row, name)))}


def test_a_row_of_ours_comes_back_whole(tmp_path: Path) -> None:
    (row,) = read(saved(tmp_path / "r.json", changed(extra_info={"chipassay": cells_of(OURS)})), Hints(chip_id="other")).rows
    ours = {name: getattr(OURS, name) for name in NAMES if getattr(OURS, name) is not None}
    assert {name: getattr(row, name) for name in ours} == {**ours, "reason": "two | lines"}
    assert row.tool is None
    assert len(row.source_hash or "") == 16


def test_raw_times_of_the_file_fill_a_row_of_ours_that_has_none(tmp_path: Path) -> None:
    cells = {name: text for name, text in cells_of(OURS).items() if name != "samples_s"}
    (row,) = read(saved(tmp_path / "r.json", changed(extra_info={"chipassay": cells})), Hints()).rows
    assert (row.samples_s, row.time_median_s) == (tuple(TIMES_S), 1.5e-05)
    del cells["time_median_s"]
    (row,) = read(saved(tmp_path / "r.json", changed(extra_info={"chipassay": cells})), Hints()).rows
    assert row.time_median_s == pytest.approx(statistics.median(TIMES_S), rel=1e-12)


def test_a_column_of_a_later_version_is_told_and_a_later_schema_refused(tmp_path: Path) -> None:
    imported = read(saved(tmp_path / "r.json", changed(extra_info={"chipassay": {**cells_of(OURS), "smell": "9"}})), Hints())
    assert (len(imported.rows), len(imported.unmapped)) == (1, 1)
    with pytest.raises(FileError, match="upgrade chipassay"):
        read(saved(tmp_path / "r.json", changed(extra_info={"chipassay": {**cells_of(OURS), "schema_version": "99"}})), Hints())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"extra_info": {"chipassay": {"op": "copy", "m": "many"}}}, "test_init: 'many' is not a whole number"),
        ({"extra_info": {"chipassay": {"op": "copy", "m": 3}}}, "not the text of a cell"),
        ({"extra_info": {"chipassay": {"m": "3"}}}, "column op: .*is empty"),
        ({"extra_info": {"chipassay": "row"}}, "no mapping"),
        ({"stats": {"median": "fast"}}, "stats.median is 'fast'"),
        ({"stats": {"median": -1.0}}, "no time"),
        ({"stats": {"data": [1.0, None]}}, "stats.data is 'None'"),
        ({"stats": {"data": 5}}, "no list"),
        ({"stats": {"median": 10**400}}, "no time"),
        ({"stats": {"median": 1.0, "rounds": 0}}, "no count"),
    ],
)
def test_a_broken_field_is_named(tmp_path: Path, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(FileError, match=named):
        read(saved(tmp_path / "r.json", changed(**fields)), Hints())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"benchmarks": 3}', '{"benchmarks": [3]}', "[" * 100_000, '{"benchmarks": [], "x": "\\ud800"}', "\ufeff{"],
    ids=["empty", "list", "no benchmarks", "number", "no object", "deep", "half a character", "cut"],
)
def test_what_is_no_such_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match=r"r\.json"):
        read(path, Hints())


@settings(derandomize=True, max_examples=60, deadline=None)
@given(cut=st.integers(0, 2500), junk=st.binary(max_size=12))
def test_any_damage_is_a_named_error_or_a_full_read(tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes) -> None:
    whole = json.dumps(changed(extra_info={"chipassay": cells_of(OURS)}), indent=1).encode()
    path = tmp_path_factory.mktemp("damage") / "r.json"
    path.write_bytes(whole[:cut] + junk + whole[cut + len(junk) :])
    recognise(path)
    with contextlib.suppress(FileError):
        assert len(read(path, Hints()).rows) <= 1


def test_what_the_installed_plugin_saves_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    test = "import pytest\n@pytest.mark.parametrize('n', [3])\ndef test_sum(benchmark, n):\n"
    test += "    benchmark.pedantic(sum, args=([1] * n,), rounds=7, iterations=4)\n"
    (tmp_path / "test_it.py").write_text(test, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-json=r.json", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    importer = recognise(tmp_path / "r.json")
    assert importer is not None
    (row,) = importer.read(tmp_path / "r.json", Hints()).rows
    assert (row.kernel, row.variant, row.sample_count, row.calls_per_sample) == ("test_it.py::test_sum[3]", "n=3", 7, 4)
    assert len(row.samples_s or ()) == 7
