"""A sweep's file: what its lists mean together, and words that help where something in it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chipassay.results.errors import FileError
from chipassay.results.shipped import find_profile
from chipassay.runners.sweep.sweep_file import AXES, MOST_ROWS, read_sweep

SMALL = 'model = "gpt2"\ncluster = "8xh100-sxm-80gb"\n'
MODEL = (
    "layers = {layers}\nhidden = 768\nheads = 12\nffn_hidden = 3072\ngated = false\nvocab = 50257\nseq_len = 1024\ntied_embeddings = true\n"
)


def sweep(folder: Path, text: str) -> list:
    path = folder / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    return read_sweep(path)


def keys(cases: list) -> list[str]:
    return [offer.key for case in cases for offer in case.offers]


def test_lists_make_their_product_and_the_last_changes_fastest(tmp_path: Path) -> None:
    cases = sweep(tmp_path, 'model = ["gpt2", "gpt2-xl"]\ncluster = ["8xh100-sxm-80gb", "8xa100-sxm-80gb"]\nbatch = [64, 128]\n')
    assert [(case.model_name, case.cluster_name, case.batch) for case in cases] == [
        (model, cluster, batch)
        for model in ("gpt2", "gpt2-xl")
        for cluster in ("8xh100-sxm-80gb", "8xa100-sxm-80gb")
        for batch in (64, 128)
    ]
    assert len(set(keys(cases))) == len(cases) == 8


def test_what_is_left_out_is_left_to_chipassay(tmp_path: Path) -> None:
    (case,) = sweep(tmp_path, SMALL)
    (offer,) = case.offers
    assert (case.batch, case.dtype, case.plan, case.link, offer.asked, offer.tokens) == (None, None, "best", "", "", None)
    assert offer.prices["h100-sxm-80gb"] is not None


def test_prices_and_tokens_are_offers_of_one_prediction(tmp_path: Path) -> None:
    (case,) = sweep(tmp_path, SMALL + 'price = ["h100-sxm-80gb=2", "h100-sxm-80gb=3"]\ntokens = [1e12, 2e12]\n')
    told = [(offer.asked, offer.tokens, offer.prices["h100-sxm-80gb"].usd) for offer in case.offers]
    assert told == [(f"h100-sxm-80gb={usd}", tokens, float(usd)) for usd in (2, 3) for tokens in (1e12, 2e12)]


def test_tables_are_products_of_their_own_with_what_stands_above_them(tmp_path: Path) -> None:
    cases = sweep(
        tmp_path,
        'model = "gpt2"\nbatch = 64\n'
        '[[sweep]]\ncluster = "8xh100-sxm-80gb"\nplan = "dp=8"\n'
        '[[sweep]]\ncluster = "16xh100-sxm-80gb"\nplan = "dp=16"\n',
    )
    assert [(case.cluster.count, case.plan, case.batch) for case in cases] == [(8, "dp=8", 64), (16, "dp=16", 64)]


def test_a_what_if_changes_the_clusters_of_its_chip_and_repeats_no_other(tmp_path: Path) -> None:
    cases = sweep(
        tmp_path,
        'model = "gpt2"\ncluster = ["16xh800-sxm-80gb", "16xh100-sxm-80gb"]\nlink = ["", "h800-sxm-80gb.nics=4"]\n',
    )
    assert [(case.cluster.name, case.link) for case in cases] == [
        ("16xh800-sxm-80gb@ndr400x8", ""),
        ("16xh800-sxm-80gb@ndr400x4", "h800-sxm-80gb.nics=4"),
        ("16xh100-sxm-80gb@ndr400x8", ""),
    ]


def test_a_sequence_length_takes_the_place_of_the_model_s(tmp_path: Path) -> None:
    assert [case.model.seq_len for case in sweep(tmp_path, SMALL + "seq_len = [512, 2048]\n")] == [512, 2048]


def test_files_are_seen_from_the_sweep_s_and_their_contents_are_part_of_the_key(tmp_path: Path) -> None:
    model, profile, cluster = tmp_path / "mine.toml", tmp_path / "chip.json", tmp_path / "rack.toml"
    profile.write_text(find_profile("h100-sxm-80gb").to_json(), encoding="utf-8")
    cluster.write_text('chip = "chip.json"\ncount = 8\n', encoding="utf-8")
    model.write_text(MODEL.format(layers=12), encoding="utf-8")
    text = 'model = "mine.toml"\ncluster = ["8xchip.json", "rack.toml", "8xh100-sxm-80gb+8xchip.json"]\n'
    cases = sweep(tmp_path, text)
    # The cluster of the file is the one of the text: it is predicted once.
    assert [(case.cluster_name, len(case.cluster.groups)) for case in cases] == [("8xchip.json", 1), ("8xh100-sxm-80gb+8xchip.json", 2)]
    model.write_text(MODEL.format(layers=24), encoding="utf-8")
    assert not set(keys(sweep(tmp_path, text))) & set(keys(cases))


def test_keys_are_the_same_in_another_process() -> None:
    code = (
        "from chipassay.runners.sweep.case import key_of\nfrom chipassay.scaling.cluster import parse_cluster\n"
        "from chipassay.scaling.models import load_model\n"
        "print(key_of(load_model('mixtral-8x7b'), parse_cluster('64xh800-sxm-80gb+8xv100-sxm2-16gb'), None, 1e12))"
    )
    told = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        for seed in ("7", "8")
    ]
    assert told[0].stdout == told[1].stdout != ""


def test_every_example_of_a_field_can_be_read(tmp_path: Path) -> None:
    text = "".join(f"{name} = {axis.example}\n" for name, axis in AXES.items() if name != "cluster")
    cases = sweep(tmp_path, text + 'cluster = ["64xh100-sxm-80gb", "64xh800-sxm-80gb"]\n')
    # Two of batch, seq_len, dtype and plan; the second link changes the H800s alone, the second price the H100s alone.
    assert len(keys(cases)) == 2**4 * (2 + 2)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("model =", "not TOML"),
        ('cluster = "8xh100-sxm-80gb"', r"model is missing; add it, such as model = \[\"llama3-8b\"\]"),
        (SMALL + "modle = 3", "unknown field 'modle'; did you mean model"),
        (SMALL + "batch = 2.5", "batch holds 2.5, which is no whole number"),
        (SMALL + "batch = [99999999999999999999]", "batch holds 99999999999999999999, and may hold at most 1,000,000,000"),
        (SMALL + "batch = [true]", "batch holds True, which is no number above 0"),
        (SMALL + "batch = []", "batch is an empty list"),
        (SMALL + "tokens = -1", "no number above 0"),
        (SMALL + "plan = 3", "plan holds 3, which is no text"),
        (SMALL + 'plan = ""', "plan holds '', which is no text"),
        (SMALL + 'plan = "tpp=8"', "unknown plan field 'tpp'; did you mean"),
        (SMALL + 'dtype = "bf61"', "unknown dtype 'bf61'; did you mean bf16"),
        (SMALL + 'dtype = "bf16"\nplan = "dp=8,dtype=fp8"', "names a dtype, and so does"),
        (SMALL + 'link = "h800-sxm-80gb.nics=4"', "unknown chip of this cluster 'h800-sxm-80gb'; did you mean h100-sxm-80gb"),
        (SMALL + 'price = "h800-sxm-80gb=2"', "no h800-sxm-80gb takes part; give the price of h100-sxm-80gb"),
        (SMALL + "seq_len = 999999999\nbatch = 1e3", "no whole number"),
        ('model = "gtp2"\ncluster = "8xh100-sxm-80gb"', "unknown model 'gtp2'; did you mean gpt2"),
        ('model = "gpt2"\ncluster = "8xh100sxm"', "unknown chip 'h100sxm'; did you mean h100-sxm-80gb"),
        ('model = "gpt2"\ncluster = "many"', "cluster 'many' cannot be read"),
        ('model = "no.toml"\ncluster = "8xh100-sxm-80gb"', "no.toml: cannot be read"),
        ("sweep = 3", "sweep is no list of tables"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence_before_anything_is_predicted(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(FileError, match=part) as told:
        sweep(tmp_path, text)
    assert ".toml" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_product_of_millions_is_refused_by_its_number(tmp_path: Path) -> None:
    numbers = str(list(range(1, 1201)))
    with pytest.raises(FileError, match=f"1440000 rows; keep it to {MOST_ROWS}"):
        sweep(tmp_path, SMALL + f"batch = {numbers}\ntokens = {numbers}\n")
