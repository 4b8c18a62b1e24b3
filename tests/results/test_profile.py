"""The profile: what is saved is what is loaded, and what is not a profile is refused with words."""

from __future__ import annotations

import json

import pytest

from chipassay.results.errors import FileError
from chipassay.results.profile import Curve, Evidence, Link, Load, Overlap, Profile, Quantity, Segment, load_profile

MEASURED = Evidence("measured", "a run", "2026-01-02")
PROFILE = Profile(
    chip_id="t4-pcie-16gb",
    name="Tesla T4",
    matmul={"fp16": Curve(1e-5, 2.1e13, MEASURED, 4, 0.02, 1e9, 1e12)},
    memory=Curve(2e-6, 2.4e11, MEASURED),
    links=(
        Link("all_reduce", "nccl", 2, 1e-5, 5e9, MEASURED, 3, 0.1),
        Link(
            "all_gather",
            "nccl",
            4,
            3e-5,
            5e9,
            MEASURED,
            12,
            0.1,
            "across",
            "graph",
            (Segment(8.0, 1e-5, 1e9, 1e-6, 1e-11, -0.4, 6, 9.0), Segment(1e5, 3e-5, 5e9, 1e-6, 1e-11, -0.4, 6, 9.0)),
            8.0,
            1e9,
        ),
    ),
    loads=(Load("all_reduce", "nccl", 2, 4, 1.1, MEASURED, "inside", 1.0, 1.2, 3),),
    overlaps=(Overlap("all_reduce", "nccl", 8, 2**26, "8192x8192x8192 bf16", MEASURED, 1.2, None),),
    peak_flops_per_s={"fp16": Quantity(6.5e13, Evidence("published", "datasheet"))},
    memory_bytes=Quantity(16e9, Evidence("published", "datasheet")),
)


def test_a_saved_profile_loads_as_it_was(tmp_path):
    PROFILE.save(tmp_path / "p.json")
    assert load_profile(tmp_path / "p.json") == PROFILE


def test_a_file_from_before_links_had_segments_is_read_as_one_line_a_link(tmp_path):
    data = json.loads(PROFILE.to_json())
    old = ("pattern", "transport", "group_size", "latency_s", "busbw_bytes_per_s", "evidence", "points", "spread")
    data["links"] = [{name: link[name] for name in old} for link in data["links"]]
    del data["loads"], data["overlaps"]
    (tmp_path / "p.json").write_text(json.dumps(data))
    found = load_profile(tmp_path / "p.json")
    assert found.links[0] == PROFILE.links[0]
    assert found.links[0].time_s(1e9) == pytest.approx(1e-5 + 1e9 / 5e9)
    assert (found.loads, found.overlaps) == ((), ())


def test_the_json_is_the_same_each_time_and_has_one_number_a_line():
    text = PROFILE.to_json()
    assert text == PROFILE.to_json()
    assert [line.strip() for line in text.splitlines() if '"rate"' in line] == ['"rate": 21000000000000.0,', '"rate": 240000000000.0,']


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 99}, "profile version 99"),
        ({"chip_id": None, "matmul": {"fp16": {"rate": 1.0}}}, "not a profile"),
        ({"memory": {"overhead_s": 0, "rate": 1, "evidence": {"level": "guessed", "source": "x"}}}, "'guessed' is not one of"),
        ({"memory": {"overhead_s": 0, "rate": "fast", "evidence": {"level": "derived", "source": "x"}}}, "rate is 'fast' and no number"),
        ({"memory": {"overhead_s": 0, "rate": float("nan"), "evidence": {"level": "derived", "source": "x"}}}, "NaN is in there"),
    ],
)
def test_what_is_not_a_profile_is_refused(tmp_path, change, complaint):
    (tmp_path / "p.json").write_text(json.dumps({**json.loads(PROFILE.to_json()), **change}))
    with pytest.raises(FileError, match=complaint):
        load_profile(tmp_path / "p.json")


@pytest.mark.parametrize(("content", "complaint"), [(b"[]", "JSON, but not a profile"), (b"\xff\xfe{}", "not text in UTF-8")])
def test_a_file_that_is_something_else_says_how_to_make_a_profile(tmp_path, content, complaint):
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(FileError, match=complaint + ".*chipassay profile FILE.csv"):
        load_profile(tmp_path / "p.json")


def test_broken_json_is_named_by_line(tmp_path):
    (tmp_path / "p.json").write_text('{\n  "version": 1,\n  oops\n}')
    with pytest.raises(FileError, match=r"p\.json, line 3: not JSON"):
        load_profile(tmp_path / "p.json")
