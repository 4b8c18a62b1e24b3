"""The suites that ship: what they hold, how large it is, and that models' shapes are what their papers' sizes give."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from chipassay.collectives.pattern import patterns
from chipassay.kernels.case import Case
from chipassay.kernels.kernel import Target, cases, kernels
from chipassay.results.beyond_cache import measures_memory, measures_overhead
from chipassay.results.catalogue import load_chips
from chipassay.results.schema import Row
from chipassay.runners.collective.tasks import Job, collective_tasks
from chipassay.runners.suites import Suite, load_suite
from chipassay.scaling.models import load_model

MEASURING = ("quick", "standard", "full")
H100 = Target("cuda", (9, 0), frozenset(load_chips()["h100-sxm-80gb"].peak_flops_per_s))
NOT_ON_A_CPU = {"transfer"}

MODELS = {"gpt3-175b": 51200, "llama3-8b": 128256, "llama3-70b": 128256, "llama3-405b": 128256}
"""Model -> rows of its vocabulary's matrix; GPT-3's 50257 are padded to a multiple of 128 on each of 8 chips, as Megatron does."""


def made(suite: Suite) -> list[Case]:
    return [cases()[wanted.op](**wanted.axes) for wanted in suite.wanted if wanted.ranks is None]


@pytest.mark.parametrize("name", MEASURING)
def test_every_operation_is_in_every_suite(name: str) -> None:
    assert {case.op for case in made(load_suite(name, "cuda"))} == set(cases())
    assert {case.op for case in made(load_suite(name, "cpu"))} == set(cases()) - NOT_ON_A_CPU
    for kind in ("cpu", "cuda"):
        assert "all_reduce" in {wanted.op for wanted in load_suite(name, kind).wanted}


@pytest.mark.parametrize(("name", "most_bytes"), [("quick", 8e9), ("standard", 60e9), ("full", 60e9), ("check", 2e9)])
def test_every_case_fits_the_memory_of_the_chips_it_is_meant_for(name: str, most_bytes: float) -> None:
    for case in made(load_suite(name, "cuda")):
        assert case.footprint_bytes < most_bytes, case
    for case in made(load_suite(name, "cpu")):
        assert case.footprint_bytes < 2e9, case


def rows_on(target: Target, name: str) -> int:
    """Rows that a run would measure if every backend were installed."""
    count = 0
    for wanted in load_suite(name, target.kind).wanted:
        if wanted.ranks is None:
            case = cases()[wanted.op](**wanted.axes)
            able = [k for b in wanted.backends or ("torch", "triton", "cupy", "numpy") for k in kernels(wanted.op, b)]
            count += sum(kernel.refuses(case, target) is None for kernel in able)
    return count


@pytest.mark.parametrize(("name", "fewest", "most"), [("quick", 100, 350), ("standard", 300, 520), ("full", 2000, 8000)])
def test_the_suites_are_as_long_on_an_h100_as_their_names_promise(name: str, fewest: int, most: int) -> None:
    """Minutes, six minutes and hours, at about 0.7 s a row with its check."""
    pytest.importorskip("torch", reason="torch is not installed, and its kernels ask for its version")
    assert fewest <= rows_on(H100, name) <= most


@pytest.mark.parametrize("name", MEASURING)
def test_a_cpu_is_done_with_a_suite_in_minutes(name: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed, and its kernels ask for its version")
    assert rows_on(Target("cpu"), name) <= 110


@pytest.mark.parametrize(("kind", "node_of", "fewest", "most"), [("cuda", (0,) * 8, 150, 260), ("cpu", (0, 0), 20, 60)])
def test_the_suite_of_collectives_takes_minutes_on_a_box(kind: str, node_of: tuple[int, ...], fewest: int, most: int) -> None:
    """At about a second a row."""
    tasks = collective_tasks(load_suite("collectives", kind), Job(kind, node_of))
    assert fewest <= len({task.key for task in tasks}) <= most


def test_the_suite_of_collectives_has_every_pattern_and_reaches_16_gib() -> None:
    wanted = load_suite("collectives", "cuda").wanted
    assert {one.op for one in wanted} == set(patterns()) == {one.op for one in load_suite("collectives", "cpu").wanted}
    sizes = [one.axes["size_bytes"] for one in wanted if "size_bytes" in one.axes]
    assert (min(sizes), max(sizes)) == (8, 16 << 30)


def products(name: str, dtype: str = "bf16") -> set[tuple[Any, ...]]:
    found = [wanted.axes for wanted in load_suite(name, "cuda").wanted if wanted.op == "matmul" and wanted.axes["dtype"] == dtype]
    return {(axes["m"], axes["n"], axes["k"], axes.get("layout", "nn")) for axes in found}


def weights(model: str, chips: int) -> set[tuple[int, int]]:
    """(outputs, inputs) of each weight of a layer, and of the vocabulary, on one of so many chips."""
    sizes = load_model(model)
    up = (sizes.mlp_matrices - 1) * sizes.ffn_hidden  # the gate lies beside it and is multiplied with it
    return {
        ((sizes.q_width + 2 * sizes.kv_width) // chips, sizes.hidden),
        (sizes.hidden, sizes.q_width // chips),
        (up // chips, sizes.hidden),
        (sizes.hidden, sizes.ffn_hidden // chips),
        (MODELS[model] // chips, sizes.hidden),
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("chips", [1, 2, 4, 8])
def test_the_full_suite_has_every_weight_of_the_dense_models(model: str, chips: int) -> None:
    assert {(tokens, n, k, "nt") for n, k in weights(model, chips) for tokens in (2048, 8192)} <= products("full")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("chips", [1, 8])
def test_the_full_suite_has_the_gradients_of_the_dense_models(model: str, chips: int) -> None:
    """With n outputs and k inputs: dX (tokens x k) = dY W, and dW (n x k) = dY' X."""
    of_input = {(4096, k, n, "nn") for n, k in weights(model, chips)}
    of_weight = {(n, k, 4096, "tn") for n, k in weights(model, chips)}
    assert of_input | of_weight <= products("full")


@pytest.mark.parametrize("chips", [1, 2, 4, 8])
def test_the_full_suite_has_every_weight_of_deepseek_v3(chips: int) -> None:
    """Sizes: DeepSeek-V3 (arXiv 2412.19437), section 4.2; dense width and vocabulary from its config.json."""
    hidden, heads, q_latent, kv_latent, rotary, head, dense, expert, vocabulary = 7168, 128, 1536, 512, 64, 128, 18432, 2048, 129280
    split = {
        (heads * (head + rotary) // chips, q_latent),
        (heads * 2 * head // chips, kv_latent),
        (hidden, heads * head // chips),
        (2 * dense // chips, hidden),
        (hidden, dense // chips),
        (2 * expert // chips, hidden),
        (hidden, expert // chips),
        (vocabulary // chips, hidden),
    }
    whole = {(q_latent, hidden), (kv_latent + rotary, hidden)}
    assert {(tokens, n, k, "nt") for n, k in split | whole for tokens in (2048, 8192)} <= products("full")


def test_the_shapes_of_models_in_the_standard_suite_are_among_those_of_the_full_one() -> None:
    def forward(name: str) -> set[tuple[int, int]]:
        return {(n, k) for m, n, k, layout in products(name) if layout == "nt" and m >= 2048 and n != k}

    every_weight = {pair for model in MODELS for chips in (1, 2, 4, 8) for pair in weights(model, chips)}
    assert len(forward("standard")) >= 12
    assert forward("standard") <= forward("full")
    assert len(forward("standard") & every_weight) >= 10


def test_the_full_suite_covers_what_a_chip_is_asked_about() -> None:
    full = made(load_suite("full", "cuda"))
    axes = [case.columns() for case in full]

    def values(op: str, name: str) -> set[Any]:
        return {columns.get(name) for columns in axes if columns["op"] == op}

    assert {"fp64", "fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8"} <= values("matmul", "dtype")
    assert values("matmul", "layout") == {"nn", "nt", "tn"}
    assert values("matmul", "scaling") == {None, "per_tensor", "row_wise"}
    assert {2**e for e in range(8, 15)} <= values("matmul", "m")
    assert {1, 2, 4, 8, 16, 32, 64} <= values("matmul", "m")
    assert values("grouped_matmul", "split") == {"even", "uneven"}
    assert {8, 256} <= values("grouped_matmul", "groups")
    assert {64, 128, 256, 192} == values("attention", "head_dim")
    assert {2**e for e in range(9, 18)} <= values("attention", "seq_q")
    assert values("attention", "direction") == {"forward", "backward"}
    assert values("attention", "causal") == {True, False}
    assert {None, 4096} <= values("attention", "window")
    assert any(columns.get("kv_heads", 0) < columns.get("heads", 0) for columns in axes if columns["op"] == "attention")
    assert 131072 in values("decode", "seq_kv")
    assert values("transfer", "path") == {"host_to_device", "device_to_host", "device_to_device"}
    assert values("transfer", "host_memory") == {None, "pageable", "pinned"}


@pytest.mark.parametrize("name", ["standard", "full"])
def test_cold_and_warm_stream_and_graph_are_rows_of_their_own(name: str) -> None:
    wanted = [w for w in load_suite(name, "cuda").wanted if w.op == "matmul"]
    states = {(w.cache, w.launch) for w in wanted if (w.axes["m"], w.axes["n"], w.axes["k"]) == (1024, 1024, 1024)}
    assert states == {("cold", "stream"), ("cold", "graph"), ("warm", "stream"), ("warm", "graph")}
    assert {w.launch for w in load_suite(name, "cuda").wanted if w.op == "launch"} == {"stream", "graph"}


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("name", MEASURING)
def test_no_measurement_is_asked_for_twice(name: str, kind: str) -> None:
    """Also not by two blocks that write the same case in two ways, such as a layout that is the default."""
    counts = Counter(
        (wanted.op, tuple(sorted(case.columns().items())), wanted.cache, wanted.launch, backend)
        for wanted in load_suite(name, kind).wanted
        if wanted.ranks is None
        for case in [cases()[wanted.op](**wanted.axes)]
        for backend in wanted.backends or ("every",)
    )
    assert [key for key, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("name", MEASURING)
@pytest.mark.parametrize("chip", ["h100-sxm-80gb", "a100-sxm-80gb", "v100-sxm2-32gb", "p100-sxm2-16gb"])
def test_a_profile_finds_what_it_fits_the_memory_to(name: str, chip: str) -> None:
    """Copies far beyond the cache for the bandwidth, and so small that their time is what a call costs."""
    cache = int(load_chips()[chip].l2_bytes or 0)
    assert cache
    copies = [case for case in made(load_suite(name, "cuda")) if case.op == "copy" and case.dtype == "fp32"]
    rows = [Row(op="copy", cache="cold", bytes=case.bytes, last_level_cache_bytes=cache) for case in copies]
    assert sum(map(measures_memory, rows)) >= 2
    assert any(map(measures_overhead, rows))
