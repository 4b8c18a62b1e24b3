"""Clusters from TOML: what each field does, and one sentence with file, field and mend for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipassay.results.errors import FileError, InputError
from chipassay.results.fabrics import find_fabric
from chipassay.scaling.cluster import Group, parse_cluster
from chipassay.scaling.cluster_file import FIELDS

from . import toys

BASE = 'chip = "h100-sxm-80gb"\ncount = 1024\n'


def read(tmp_path: Path, text: str) -> Group:
    path = tmp_path / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    (group,) = parse_cluster(str(path)).groups
    return group


def test_what_is_left_out_is_that_of_the_text_form(tmp_path: Path) -> None:
    (same,) = parse_cluster("1024xh100-sxm-80gb").groups
    assert read(tmp_path, BASE) == same


def test_every_field_is_read(tmp_path: Path) -> None:
    text = (
        BASE
        + 'chips_per_node = 4\nfabric = "ndr"\nnic_gbit_per_s = 200\nnics_per_node = 4\nlatency_us = 3.5\nbus_share = 0.9\n'
        + "pod_nodes = 32\noversubscription = 2\nusd_per_chip_hour = 2.5\n"
    )
    assert {line.split(" = ")[0] for line in text.splitlines()} == set(FIELDS)
    group = read(tmp_path, text)
    fabric = group.fabric
    assert (group.count, group.chips_per_node, group.nodes, group.usd_per_chip_hour) == (1024, 4, 256, 2.5)
    assert fabric.nics * fabric.nic_bytes_per_s_one_way == pytest.approx(4 * 25e9)
    assert fabric.node_bytes_per_s == pytest.approx(4 * 25e9 * 0.9)
    assert (fabric.latency_s, fabric.pod_nodes, fabric.oversubscription) == (pytest.approx(3.5e-6), 32, 2)
    assert fabric.evidence.level == "assumed"
    assert "latency_s" in fabric.evidence.source
    assert "2:1 beyond 32 nodes" in next(given.value for given in group.inputs if given.what == "network between nodes")


def test_a_short_name_is_the_same_fabric_as_in_the_text_form(tmp_path: Path) -> None:
    assert read(tmp_path, BASE + 'fabric = "hdr200x8/2:32"\n').fabric == find_fabric("hdr200x8/2:32")


def test_an_oversubscription_without_pods_is_that_of_every_node(tmp_path: Path) -> None:
    assert read(tmp_path, BASE + "oversubscription = 3\n").fabric.pod_nodes == 1


def test_several_kinds_of_chips_are_groups(tmp_path: Path) -> None:
    path = tmp_path / "mix.toml"
    path.write_text('[[group]]\nchip = "h100-sxm-80gb"\ncount = 16\n[[group]]\nchip = "a100-sxm-80gb"\ncount = 8\n', encoding="utf-8")
    assert [(group.count, group.profile.chip_id) for group in parse_cluster(str(path)).groups] == [
        (16, "h100-sxm-80gb"),
        (8, "a100-sxm-80gb"),
    ]


def test_a_profile_is_found_beside_the_file(tmp_path: Path) -> None:
    toys.toy_profile().save(tmp_path / "mine.json")
    assert read(tmp_path, 'chip = "mine.json"\ncount = 1\n').profile.chip_id == "toy"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BASE + "chip_per_node = 8\n", "unknown field 'chip_per_node'; did you mean chips_per_node"),
        ('chip = "h100-sxm-80gb"\n', "count is missing; add it, such as count = 64"),
        ('chip = "h100-sxm-80gb"\ncount = 0\n', "count is 0; give at least 1"),
        ('chip = "h100-sxm-80gb"\ncount = 8.5\n', "count is 8.5 and no whole number; write one such as count = 64"),
        ('chip = "h100-sxm-80gb"\ncount = "8"\n', "count is '8' and no number; write one such as count = 64"),
        ('chip = "h100-sxm-80gb"\ncount = true\n', "count is True and no number"),
        ("chip = 100\ncount = 8\n", "chip is 100 and no text"),
        ('chip = "h100"\ncount = 8\n', "did you mean h100-"),
        (BASE + "latency_us = -1\n", "latency_us is -1; give at least 0"),
        (BASE + "latency_us = nan\n", "latency_us is nan and no number"),
        (BASE + "bus_share = 1.2\n", "bus_share is 1.2; give at most 1"),
        (BASE + "bus_share = 0\n", "bus_share is 0; give more than 0"),
        (BASE + "oversubscription = 0.5\n", "oversubscription is 0.5; give at least 1"),
        (BASE + "usd_per_chip_hour = -2\n", "usd_per_chip_hour is -2; give at least 0"),
        (BASE + 'fabric = "ndr"\n', "fabric 'ndr' is a kind alone; add nic_gbit_per_s and nics_per_node, or write it as ndr400x8"),
        (BASE + 'fabric = "ndr400x8"\nnics_per_node = 4\n', "nics_per_node is told beside fabric 'ndr400x8'; name the kind alone"),
        (BASE + "nics_per_node = 4\n", "nics_per_node is told beside no fabric; name the kind alone"),
        (BASE + 'fabric = "ndx400x8"\n', "unknown fabric kind 'ndx'; did you mean ndr"),
        (BASE + 'fabric = "none"\n', "need a network"),
        ("count = \n", "not TOML"),
        ("group = 3\n", "group is no list of tables; write each kind of chip under"),
        ("count = 3\n[[group]]\ncount = 8\n", "count stands outside of the groups; move it under a"),
    ],
)
def test_what_cannot_be_is_told_with_file_field_and_mend(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(FileError) as caught:
        read(tmp_path, text)
    told = str(caught.value)
    assert told.startswith(str(tmp_path / "cluster.toml"))
    assert sentence in told
    assert "\n" not in told


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        parse_cluster(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("name", ["hdr200x8/0.5", "hdr200x8/2:0"])
def test_an_oversubscription_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="at least 1"):
        find_fabric(name)


def test_a_cluster_larger_than_any_is_refused_before_it_is_searched(tmp_path: Path) -> None:
    assert parse_cluster("1048576xh100-sxm-80gb").count == 2**20
    for count in ("1048577", "9" * 22, "9" * 5000):
        with pytest.raises(InputError, match="larger than any there is; give at most 1,048,576 chips of a kind"):
            parse_cluster(f"8xa100-sxm-80gb+{count}xh100-sxm-80gb")
    with pytest.raises(FileError, match="count is 1048577; give at most 1048576"):
        read(tmp_path, BASE.replace("1024", "1048577"))
