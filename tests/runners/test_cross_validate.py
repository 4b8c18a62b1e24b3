"""How far models are off, the rows that are furthest off, and what is extrapolated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chipassay.results.evidence import Evidence
from chipassay.results.profile import Profile
from chipassay.results.reference_shapes import PRODUCTS
from chipassay.results.schema import Row
from chipassay.results.shape_models.product import ProductModel
from chipassay.runners.fitting.cross_validate import Fitted, all_fitted, between, far_off, outside, shape_words
from chipassay.runners.normalise import choose, profile_of
from chipassay.runners.show_fits import fit_json, fit_lines

MODEL = ProductModel(1e14, 1e12, 1e-6, Evidence("measured", "test"))


def product(edge, slower=1.0, **more):
    given = {"op": "matmul", "m": edge, "n": edge, "k": edge, "layout": "nt", "dtype": "bf16", "cache": "cold", "status": "ok"}
    return Row(**{**given, "time_median_s": slower * float(MODEL.time_s(edge, edge, edge)), "chip_id": "x", **more})


def all_reduce(size_bytes, slower=1.0):
    time_s = slower * (2e-5 + 1.5 * size_bytes / 1e11)
    return Row(op="all_reduce", size_bytes=size_bytes, group_size=4, backend="nccl", status="ok", time_median_s=time_s, chip_id="x")


ROWS = [
    *(product(edge) for edge in (512, 1024, 2048, 4096)),
    product(3072, slower=3.0),
    *(all_reduce(2**e) for e in range(10, 31, 2)),
    Row(op="copy", bytes=2.0**30, cache="cold", status="ok", time_median_s=1e-3, chip_id="x"),
]


@pytest.fixture(scope="module")
def fitted():
    chosen = choose(ROWS)
    profile = profile_of(chosen)
    return chosen, profile, all_fitted(chosen, profile)


def test_every_model_of_the_profile_stands_beside_its_rows(fitted):
    assert [(one.kind, one.name, len(one.rows)) for one in fitted[2]] == [
        ("matmul", "matmul bf16", 5),
        ("memory", "copy", 1),
        ("links", "all_reduce nccl 4 ranks", 11),
    ]


def test_the_row_that_is_off_is_named_first(fitted):
    worst = far_off(fitted[2], 5)[0]
    assert (worst.name, worst.shape) == ("matmul bf16", "3072 x 3072 x 3072 nt")
    assert worst.measured_s / worst.modelled_s > 2


def test_the_error_of_a_link_is_that_between_its_sizes_and_zero_without_noise(fitted):
    link = fitted[2][-1].held_out
    assert link.points == 9
    assert link.median == pytest.approx(0.0, abs=1e-3)


def test_the_ends_are_never_left_out_and_few_sizes_say_nothing():
    seen = []

    def refitted(sizes, times_s):
        seen.append(sizes)
        return lambda size: size * 1.1

    sizes = np.arange(1.0, 11.0)
    error = between(sizes, sizes, refitted)
    assert all({1.0, 10.0} <= set(kept.tolist()) for kept in seen)
    assert error.median == pytest.approx(0.1)
    assert error.points == 8
    assert between(sizes[:5], sizes[:5], refitted) is None


def test_layouts_and_backward_rows_are_held_against_their_own_times():
    rows = [product(1024 * edge, slower=1 + 0.5 * (layout == "nn"), layout=layout) for edge in (1, 2, 3, 4) for layout in ("nt", "nn")]
    profile = Profile("x", "X", products={"bf16": replace(MODEL, layouts={"nn": 1.5})})
    (one,) = all_fitted(choose(rows), profile)
    assert one.off == pytest.approx(np.zeros(8), abs=1e-9)


def test_shapes_of_well_known_models_beyond_what_was_fitted_are_named_with_the_edge():
    everything = {"m": (1.0, 1e6), "n": (1.0, 1e6), "k": (1.0, 1e6), "flops": (1.0, 1e18)}
    wide = replace(MODEL, fitted_range=everything)
    narrow = replace(MODEL, fitted_range={**everything, "k": (1.0, 8192.0)})
    found = {one.name: one for one in outside(Profile("x", "X", products={"bf16": wide, "fp16": narrow}))}
    assert found["matmul bf16"].shapes == ()
    # Depths above 8192: forward those of models with k of 12288 or 14336, and gradients by how m, n and k change places.
    forward = [shape.name for shape in PRODUCTS if shape.k > 8192]
    assert set(forward) <= set(found["matmul fp16"].shapes)
    assert found["matmul fp16"].beyond == ("k 1024 to 28672, fitted 1 to 8192",)
    assert found["matmul fp16"].asked == 3 * (len(PRODUCTS) - 1) + 1


def test_a_shape_is_told_as_people_write_it():
    heads = {"batch": 2, "heads": 32, "kv_heads": 8, "seq_q": 4096, "seq_kv": 8192, "head_dim": 128}
    assert shape_words(Row(op="attention", causal=True, direction="backward", **heads)) == (
        "2 x 32 heads (8 of keys) x 4096 x 128 on 8192 keys causal backward"
    )
    assert shape_words(Row(op="batched_matmul", m=64, n=64, k=64, groups=8)) == "8 of 64 x 64 x 64"
    assert shape_words(Row(op="all_reduce", size_bytes=8)) == "8 B"


def test_lines_and_json_tell_the_same(fitted):
    chosen, profile, found = fitted
    lines, data = "\n".join(fit_lines(chosen, profile, found)), fit_json(chosen, profile, found)
    assert [error["name"] for error in data["errors"]] == ["matmul bf16", "copy", "all_reduce nccl 4 ranks"]
    assert "of one row each, so without an error: copy" in lines
    assert data["furthest_off"][0]["shape"] in lines
    assert f"matmul bf16{' ' * 24}37 of 37" in lines


def test_what_a_model_says_exactly_is_off_by_nothing():
    one = Fitted("matmul", "m", "bf16", [product(512)], np.array([1.0]), np.array([1.25]), None)
    assert one.off.tolist() == [0.25]
