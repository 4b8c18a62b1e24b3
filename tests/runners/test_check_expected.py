"""What is expected of a row: the published figure of this chip, case and fabric; never that of another; unknown where nobody published."""

from __future__ import annotations

import math
from typing import Any

import pytest

from chipassay.results.expected import ExpectedRow, load_expected
from chipassay.results.schema import Row
from chipassay.runners.check.check import check_rows
from chipassay.runners.check.expected import expectation

KERNELS = {"flash-attention-2": "torch.sdpa.flash", "unfused": "torch.sdpa.math"}


def as_row(one: ExpectedRow) -> Row:
    """The row that the source would have written."""
    case: dict[str, Any] = {}
    if one.op == "attention":
        heads = 2048 // (one.head_dim or 1)
        case = {
            "seq_q": one.seq, "seq_kv": one.seq, "head_dim": one.head_dim, "causal": one.causal, "direction": one.direction,
            "kernel": KERNELS.get(one.implementation, one.implementation), "heads": heads, "batch": 16384 // (one.seq or 1),
        }  # fmt: skip
    elif one.op == "matmul":
        case = {"m": one.m or 8192, "n": one.n or 8192, "k": one.k or 8192}
    elif one.op == "transfer":
        case = {"path": one.path, "bytes": 2.0**30} | ({"variant": "from=0;to=1"} if one.group_size else {"host_memory": "pinned"})
    elif one.metric == "busbw_bytes_per_s":
        case = {"size_bytes": one.size_bytes or 2**33, "group_size": one.group_size, "backend": "nccl", "algorithm": one.algorithm or None}
    else:
        case = {"bytes": 2.0**33}
    common: dict[str, Any] = {"chip_id": one.chip_id, "op": one.op, "fabric": one.fabric, "node_count": one.node_count, "status": "ok"}
    return Row(**common, dtype=one.dtype or None, **{one.metric: one.value}, **case)


EMULATED = {("p100-pcie-16gb", "bf16"), ("v100-sxm2-16gb", "bf16")}


def test_every_published_figure_passes_its_own_check() -> None:
    figures = [one for one in load_expected() if (one.chip_id, one.dtype) not in EMULATED]
    assert len(figures) > 400
    for one in figures:
        verdict = check_rows([as_row(one)])
        assert verdict.severity == "ok", (one, [finding.words for finding in (*verdict.findings, *verdict.machine)])
        assert verdict.expected == 1, one


def test_all_published_figures_together_are_healthy_machines() -> None:
    verdict = check_rows([as_row(one) for one in load_expected() if (one.chip_id, one.dtype) not in EMULATED])
    assert verdict.severity in ("ok", "note")


def test_published_emulation_is_told_as_such() -> None:
    emulated = [as_row(one) for one in load_expected() if (one.chip_id, one.dtype) in EMULATED]
    assert [finding.rule for finding in check_rows(emulated).findings] == ["emulated", "emulated"]


def all_reduce(busbw_gb_per_s: float, **case: Any) -> Row:
    given = {"chip_id": "b200-sxm-180gb", "size_bytes": 2**33, "group_size": 8, "backend": "nccl", "node_count": 1, "dtype": "bf16"}
    return Row(op="all_reduce", status="ok", busbw_bytes_per_s=busbw_gb_per_s * 1e9, **given | case)


def test_a_gate_for_one_fabric_does_not_let_a_faster_one_lose_two_fifths() -> None:
    """NVIDIA/aicr issue 2784: 450 GB/s passed as a floor of all, and a system of 770 could lose 40 %."""
    found = expectation(all_reduce(0.6 * 838))
    assert found is not None
    assert 0.75 * found.low > 0.6 * 838e9
    assert check_rows([all_reduce(0.6 * 838)]).severity == "fault"
    assert check_rows([all_reduce(836.0)]).severity == "ok"


def test_the_transport_decides_what_to_expect_not_the_number_of_chips() -> None:
    over_link = expectation(all_reduce(228.0, chip_id="a100-sxm-80gb"))
    over_pcie = expectation(all_reduce(22.0, chip_id="a100-sxm-80gb", fabric="pcie"))
    assert over_link is not None
    assert over_pcie is not None
    assert 231.58e9 <= over_link.value <= 234.61e9  # Azure's page and ml-engineering's log at 8 GiB
    assert over_pcie.value == pytest.approx(24e9)  # NVIDIA's slide: 24 GB/s over PCIe 4
    assert check_rows([all_reduce(22.0, chip_id="a100-sxm-80gb", fabric="pcie")]).severity == "ok"


def test_a_fabric_that_is_taken_for_granted_is_said_to_be() -> None:
    untold, told = expectation(all_reduce(800.0)), expectation(all_reduce(800.0, fabric="nvlink"))
    assert untold is not None
    assert told is not None
    assert "do not name their fabric" in untold.source
    assert "do not name their fabric" not in told.source


def test_a_forced_ring_is_held_against_rings() -> None:
    free, ring = all_reduce(366.0, chip_id="h200-sxm-141gb"), all_reduce(366.0, chip_id="h200-sxm-141gb", algorithm="ring")
    assert check_rows([ring]).severity == "ok"
    assert [finding.rule for finding in check_rows([free]).findings] == ["collective-slow"]


def test_a_size_between_two_published_ones_is_read_between_them() -> None:
    """Azure's H100 page: 423.38 at 256 MiB, 466.35 at 1 GiB; 512 MiB stands there, too, so take a size that does not."""
    found = expectation(all_reduce(440.0, chip_id="h100-sxm-80gb", size_bytes=3 * 2**27))
    assert found is not None
    assert 423.38e9 < found.value < 466.35e9
    assert found.level == "derived"


@pytest.mark.parametrize(
    "row",
    [
        all_reduce(100.0, chip_id="cpu-zen-4-2c"),
        all_reduce(100.0, chip_id="mi355x-288gb", group_size=3),
        all_reduce(100.0, members="0-3|4-7"),
        all_reduce(100.0, node_count=2, group_size=16),  # a network that is not named
        all_reduce(30.0, chip_id="h100-pcie-80gb", group_size=2),  # bridged or not: nobody knows
        all_reduce(100.0, backend="gloo"),
        all_reduce(100.0, dtype="int8"),
        Row(op="rms_norm", status="ok", chip_id="h100-sxm-80gb", bytes=1e10, bandwidth_bytes_per_s=2e12),
        Row(op="copy", status="ok", chip_id="h100-sxm-80gb", bytes=1e6, bandwidth_bytes_per_s=2e12, last_level_cache_bytes=50 * 2**20),
        Row(op="matmul", status="ok", chip_id="h800-sxm-80gb", dtype="bf16", m=1, n=4096, k=4096, rate_flops_per_s=1e12),
        Row(op="matmul", status="ok", chip_id="h100-sxm-80gb", dtype="fp16", math_mode="fp16_accum", m=512, n=512, k=512, flops=1e9),
        Row(op="attention", status="ok", chip_id="h100-sxm-80gb", dtype="bf16", seq_q=4096, seq_kv=4096, head_dim=80, rate_flops_per_s=1.0),
        Row(op="matmul", status="skipped", chip_id="h100-sxm-80gb", dtype="bf16", m=4096, n=4096, k=4096),
    ],
)  # fmt: skip
def test_what_nobody_published_stays_unknown(row: Row) -> None:
    assert expectation(row) is None


def test_the_same_network_is_recognised_by_adapters_and_rate() -> None:
    """nccl-tests issue 119: 24 A100s on three nodes with four HDR adapters each, 96 GB/s at 128 MiB."""
    case = {"chip_id": "a100-sxm-40gb", "group_size": 24, "node_count": 3, "size_bytes": 2**27}
    found = expectation(all_reduce(90.0, fabric="hdr200x4", **case))
    assert found is not None
    assert found.value == pytest.approx(96e9)
    assert expectation(all_reduce(90.0, fabric="hdr200x8", **case)) is None


def test_transposed_products_are_the_same_work() -> None:
    """ml-engineering's best shape on the A100, 1024 x 10240 x 5120, with rows and columns exchanged."""
    given: dict[str, Any] = {"op": "matmul", "status": "ok", "chip_id": "a100-sxm-80gb", "dtype": "bf16", "rate_flops_per_s": 2.7e14}
    one, other = expectation(Row(m=1024, n=10240, k=5120, **given)), expectation(Row(m=10240, n=1024, k=5120, **given))
    assert one == other is not None
    assert one is not None
    assert one.value == pytest.approx(271.2e12)


def test_a_near_shape_says_how_near() -> None:
    row = Row(op="matmul", status="ok", chip_id="a100-sxm-80gb", dtype="fp16", m=7168, n=8192, k=8192, rate_flops_per_s=2.5e14)
    found = expectation(row)
    assert found is not None
    assert "of 8192x8192x8192, 0.2 octaves away" in found.source
    assert found.level == "derived"


def test_a_cold_product_may_first_read_its_inputs() -> None:
    """A user's H100: 676.6 TFLOP/s at 2048 cubed out of a warm cache. The 25 MB of it take 8.7 us of HBM at 2.9 TB/s beside its 25.4."""
    case: dict[str, Any] = {"op": "matmul", "status": "ok", "chip_id": "h100-sxm-80gb", "dtype": "bf16", "m": 2048, "n": 2048, "k": 2048,
                            "flops": 2.0 * 2048**3, "bytes": 6.0 * 2048**2, "rate_flops_per_s": 4.7e14}  # fmt: skip
    warm, cold = expectation(Row(cache="warm", **case)), expectation(Row(cache="cold", **case))
    assert warm is not None
    assert cold is not None
    assert warm.value == cold.value
    assert cold.low == pytest.approx(1 / (1 / warm.low + 25.2e6 / 2.9e12 / (2 * 2048**3)), rel=0.01)


def test_the_implementation_of_attention_decides() -> None:
    """FlashAttention's charts, H100, 16k, d128, not causal: FA2 370, FA3 648."""
    case: dict[str, Any] = {"op": "attention", "status": "ok", "chip_id": "h100-sxm-80gb", "dtype": "fp16", "seq_q": 16384, "seq_kv": 16384,
                            "head_dim": 128, "heads": 16, "batch": 1, "causal": False, "rate_flops_per_s": 3.6e14}  # fmt: skip
    second, third = expectation(Row(kernel="torch.sdpa.flash", **case)), expectation(Row(kernel="flash_attn_3", **case))
    assert second is not None
    assert third is not None
    assert (second.value, third.value) == (pytest.approx(370e12), pytest.approx(648e12))
    unfused = expectation(Row(kernel="torch.sdpa.math", **case))
    assert unfused is not None
    assert unfused.value == pytest.approx(145.1e12)  # Azure's page, of sequences of 8192
    assert unfused.level == "derived"


def test_a_pass_level_has_no_upper_end() -> None:
    row = Row(op="matmul", status="ok", chip_id="mi300x-192gb", dtype="bf16", m=4096, n=4096, k=8192, rate_flops_per_s=6e14)
    found = expectation(row)
    assert found is not None
    assert found.high == math.inf
    assert check_rows([row]).severity == "ok"
