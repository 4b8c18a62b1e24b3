"""Exchange: equal chips are worth one, the number found reaches the aim, and what cannot be replaced says so."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipassay.results.profile import Curve, Profile, Quantity
from chipassay.scaling.cluster import make_group
from chipassay.scaling.errors import MissingCell
from chipassay.scaling.exchange import exchange_rate, legal_counts, per_chip_worth, smallest_reaching
from chipassay.scaling.models import load_model
from chipassay.scaling.search import best_plan
from chipassay.scaling.text import describe_exchange, describe_worth, worth_sentence


def _toys() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaling_toys", Path(__file__).with_name("toys.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


toys = _toys()


def cpu_profile(rate: float = 9e10, memory_bytes: float = 20e9) -> Profile:
    """A small CPU machine as `chipassay profile` describes one: fp32, a gloo link between its own ranks, no datasheet."""
    return Profile(
        chip_id="cpu-2-cores",
        name="CPU",
        matmul={"fp32": Curve(1e-5, rate, toys.MEASURED), "bf16": Curve(1e-5, rate / 5, toys.MEASURED)},
        attention={"fp32": Curve(2e-5, rate / 3, toys.MEASURED)},
        memory=Curve(1e-6, 2e10, toys.MEASURED),
        links=(replace(toys.toy_link(2, 1e9, 1e-3), transport="gloo"),),
        memory_bytes=Quantity(memory_bytes, toys.MEASURED),
    )


def test_a_chip_is_worth_exactly_one_of_itself() -> None:
    worth = per_chip_worth("llama3-8b", "h100-sxm-80gb", "h100-sxm-80gb")
    assert (worth.low, worth.ratio, worth.high) == (1, 1, 1)


def test_worth_read_backwards_is_the_inverse() -> None:
    there = per_chip_worth("llama3-8b", "h100-sxm-80gb", "a800-sxm-80gb")
    back = per_chip_worth("llama3-8b", "a800-sxm-80gb", "h100-sxm-80gb")
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.low == pytest.approx(1 / back.high)


def test_the_published_order_of_the_chips_is_kept() -> None:
    """A100 : V100 was 2.1 on the same code (Megatron-LM), H100 : A100 2.2 (FSDP); the model may miss by a third, not by order."""
    worth = {
        chip: per_chip_worth("llama3-8b", "h100-sxm-80gb", chip).ratio for chip in ("a100-sxm-80gb", "a800-sxm-80gb", "v100-sxm2-32gb")
    }
    assert worth["a100-sxm-80gb"] == pytest.approx(2.2, rel=0.34)
    assert worth["v100-sxm2-32gb"] / worth["a100-sxm-80gb"] == pytest.approx(2.1, rel=0.34)
    assert worth["a100-sxm-80gb"] <= worth["a800-sxm-80gb"]  # the same chip with a cut link is never better


def test_twice_the_chip_is_worth_half_as_many() -> None:
    link = toys.toy_link(busbw=1e15, latency_s=0.0)
    slow = toys.toy_profile(rate=1e14, bandwidth=1e12, overhead_s=0.0, links=(link,), chip_id="slow")
    fast = toys.toy_profile(rate=2e14, bandwidth=2e12, overhead_s=0.0, links=(link,), chip_id="fast")
    assert per_chip_worth("llama2-7b", fast, slow).ratio == pytest.approx(2, rel=1e-2)


def test_a_small_cpu_gets_an_honest_number_with_its_assumed_network_named() -> None:
    cpu = cpu_profile()
    worth = per_chip_worth("llama3-8b", "h100-sxm-80gb", cpu)
    assert 3000 < worth.ratio < 40000  # 737 TFLOP/s over 0.09 is 8,200
    assert worth.low < worth.ratio < worth.high
    assert worth.other.chips > 1  # 16 bytes a weight and 20 GB a machine
    assert worth.other.dtype == "fp32"
    network = next(entry for entry in worth.inputs if entry.what == "cpu-2-cores: network between nodes")
    assert network.evidence.level == "assumed"
    assert "llama3-8b" in worth_sentence(worth)
    assert "assumed" in describe_worth(worth)


@given(rate=st.floats(1e9, 1e16), memory_gb=st.floats(4, 2000))  # in less, the logits and embeddings of a stage alone do not fit
def test_worth_is_finite_for_chips_of_any_speed_and_size(rate: float, memory_gb: float) -> None:
    worth = per_chip_worth("gpt2-xl", "h100-sxm-80gb", cpu_profile(rate, memory_gb * 1e9))
    assert 0 < worth.low <= worth.ratio <= worth.high < math.inf


def test_a_chip_of_unknown_speed_is_refused_by_the_missing_cell() -> None:
    with pytest.raises(MissingCell, match="kunlun-p800"):
        per_chip_worth("llama3-8b", "h100-sxm-80gb", "kunlun-p800")


def test_the_number_found_reaches_the_reference_and_is_in_whole_nodes() -> None:
    exchange = exchange_rate("llama3-8b", "h100-sxm-80gb", 32, "a800-sxm-80gb")
    assert exchange.count is not None
    assert exchange.other is not None
    assert exchange.count % 8 == 0
    assert exchange.other.tokens_per_s >= exchange.reference.tokens_per_s
    assert exchange.other.plan.global_batch == pytest.approx(exchange.global_batch, rel=0.05)
    fewer = best_plan("llama3-8b", "64xa800-sxm-80gb", exchange.global_batch)
    assert exchange.count > 64
    assert fewer.tokens_per_s < exchange.reference.tokens_per_s
    assert exchange.count_low is not None
    assert exchange.count_high is not None
    assert exchange.count_low < exchange.count < exchange.count_high
    assert json.loads(json.dumps(exchange.to_dict()))["count"] == exchange.count
    assert f"= {exchange.count} x a800-sxm-80gb" in describe_exchange(exchange)


def test_a_chip_exchanged_for_itself_needs_no_more_than_as_many() -> None:
    exchange = exchange_rate("llama3-8b", "h100-sxm-80gb", 64, "h100-sxm-80gb")
    assert exchange.count == 64


def test_a_number_that_divides_no_power_of_two_is_exchanged_at_a_batch_near_the_usual_one() -> None:
    exchange = exchange_rate("llama3-8b", "h100-sxm-80gb", 100, "a100-sxm-80gb")
    assert exchange.reference.chips == 100
    assert exchange.global_batch == pytest.approx(512, rel=0.05)
    assert exchange.count is not None


def test_where_no_number_reaches_it_the_reason_and_the_ratio_remain() -> None:
    exchange = exchange_rate("llama3-8b", "h100-sxm-80gb", 8, cpu_profile())
    assert exchange.count is None
    assert "runs out of parallel work" in exchange.reason
    assert exchange.ratio > 1000
    assert "cannot be replaced" in describe_exchange(exchange)


@given(aim=st.integers(0, 60), start=st.integers(0, 80))
def test_bisection_finds_the_first_count_that_reaches_the_aim(aim: int, start: int) -> None:
    counts = list(range(50))
    found = smallest_reaching(counts, start, lambda index: counts[index] >= aim)
    assert found == (aim if aim < 50 else None)


def test_legal_counts_are_whole_nodes_that_some_split_uses() -> None:
    counts = legal_counts(load_model("llama3-8b"), make_group(1, toys.toy_profile(links=(toys.toy_link(),))), 64)
    assert counts == sorted(counts)
    assert all(count % 8 == 0 for count in counts)
    assert 64 in counts


def test_loading_the_model_needs_neither_torch_nor_pandas() -> None:
    code = "import sys, chipassay.scaling.text; sys.exit(bool({'torch', 'pandas', 'numpy', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
