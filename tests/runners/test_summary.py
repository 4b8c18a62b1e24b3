"""What a run comes to, in the terminal and as data."""

from __future__ import annotations

from chipassay.results.profile import LEVELS
from chipassay.results.schema import Row
from chipassay.runners.normalise import normalise
from chipassay.runners.summary import cards, summarise, summary_lines

COMMON = {"status": "ok", "cache": "cold", "chip_id": "cpu-x-2c", "device_name": "X", "device_memory_bytes": 64 * 2**30, "kernel": "k"}


def matmul(dtype, edge, rate, **more):
    flops = 2.0 * edge**3
    given = {"op": "matmul", "dtype": dtype, "m": edge, "n": edge, "k": edge, "flops": flops, "rate_flops_per_s": rate}
    return Row(**{**COMMON, **given, "time_median_s": flops / rate, **more})


def copy(size_bytes, rate):
    return Row(
        **COMMON, op="copy", elements=size_bytes // 8, bytes=float(size_bytes), bandwidth_bytes_per_s=rate, time_median_s=size_bytes / rate
    )


ROWS = [
    matmul("bf16", 512, 3e11),
    matmul("bf16", 2048, 4e11, peak_fraction=0.8, peak_evidence="derived"),
    matmul("fp32", 2048, 2e11),
    matmul("bf16", 2048, 9e11, cache="warm"),
    matmul("fp16", 2048, 9e15, status="incorrect"),
    copy(2**29, 3e10),
]


def test_the_best_correct_rate_of_each_dtype_is_told_with_its_share_of_peak():
    found = {card.title: card for card in cards(ROWS)}
    assert found["matmul bf16"].value == "400.0 GFLOP/s"
    assert "80 % of peak (derived); 2048 x 2048 x 2048, k" in found["matmul bf16"].note
    assert "peak unknown" in found["matmul fp32"].note
    assert "matmul fp16" not in found
    assert found["memory copy"].value == "30.0 GB/s"


def figure(op, **columns):
    given = {"flops": 1e12, "bytes": 1e9, "time_median_s": 1e-3, "rate_flops_per_s": 1e15, "bandwidth_bytes_per_s": 1e12}
    return Row(**{**COMMON, "op": op, "dtype": "bf16", **given, **columns})


def test_each_kind_of_operation_has_a_headline_of_its_own():
    rows = [
        figure("transfer", path="host_to_device", host_memory="pinned", dtype="int8"),
        figure("launch", bytes=1024.0, time_median_s=256 * 2e-6, launch="graph", dtype="fp32"),
        figure("launch", bytes=1024.0, time_median_s=256 * 5e-6, launch="stream", dtype="fp32"),
        figure("adam"),
        figure("decode", seq_kv=8192),
        figure("attention", direction="backward"),
        figure("attention", direction="forward"),
        figure("grouped_matmul", groups=8, split="uneven"),
        figure("matmul", dtype="fp8_e4m3", scaling="per_tensor"),
        figure("matmul", dtype="fp8_e4m3", scaling="row_wise"),
    ]
    assert [(card.title, card.value) for card in cards(rows)] == [
        ("matmul fp8_e4m3 scales per tensor", "1.00 PFLOP/s"),
        ("matmul fp8_e4m3 scales row wise", "1.00 PFLOP/s"),
        ("grouped matmul bf16", "1.00 PFLOP/s"),
        ("attention backward bf16", "1.00 PFLOP/s"),
        ("attention bf16", "1.00 PFLOP/s"),
        ("memory decode", "1.00 TB/s"),
        ("memory adam", "1.00 TB/s"),
        ("launch, graph", "2.00 us a kernel"),
        ("launch, stream", "5.00 us a kernel"),
        ("host to device pinned", "1.00 TB/s"),
    ]


def test_a_rate_above_the_chips_peak_is_no_headline_while_there_is_another():
    rows = [matmul("bf16", 2048, 9e15, flags="above the chip's peak rate", kernel="broken"), matmul("bf16", 2048, 4e11)]
    (card,) = cards(rows)
    assert card.value == "400.0 GFLOP/s"


def test_the_exchange_rate_comes_with_the_evidence_of_every_input():
    summary = summarise(ROWS, normalise(ROWS))
    assert summary.sentence.startswith("For training llama3-8b, one h100-sxm-80gb is worth ")
    assert summary.sentence.endswith(").")
    levels = [given.level for given in summary.inputs]
    assert {"measured", "published", "assumed"} <= set(levels) <= set(LEVELS)
    text = "\n".join(summary_lines(summary))
    assert all(given.what in text for given in summary.inputs)


def test_the_all_reduce_card_is_of_cold_rows_and_names_its_smallest_size():
    def reduce(size_bytes, busbw, cache):
        return Row(
            **{**COMMON, "cache": cache}, op="all_reduce", size_bytes=size_bytes, group_size=2, backend="gloo",
            busbw_bytes_per_s=busbw, time_median_s=1e-3,
        )  # fmt: skip

    (card,) = cards([reduce(2**20, 1e9, "cold"), reduce(2**26, 2e9, "cold"), reduce(2**26, 9e9, "warm"), reduce(8, 1e3, "warm")])
    assert card.value == "2.00 GB/s"
    assert card.note.endswith("64 MiB; 1.00 ms at 1 MiB")


def collective(op, size_bytes, busbw, ranks=4, **more):
    given = {"size_bytes": size_bytes, "group_size": ranks, "backend": "nccl", "busbw_bytes_per_s": busbw, "time_median_s": 2e-3}
    return Row(**{**COMMON, "op": op, **given, **more})


def test_every_pattern_has_a_card_of_its_largest_group():
    rows = [
        collective("all_gather", 2**26, 2e9), collective("all_gather", 2**26, 9e9, ranks=2, members="0,1"),
        collective("all_reduce", 2**26, 3e9),
        collective("barrier", 0, None, time_median_s=4e-5), collective("all_reduce", 2**26, 8e9, beside="matmul 512x512x512 bf16"),
        collective("all_reduce", 2**26, 8e9, members="0,1|2,3"),
        matmul("bf16", 512, 1e9, group_size=4, beside="all_reduce 64 MiB bf16 nccl"),
    ]  # fmt: skip
    assert [(card.title, card.value) for card in cards(rows)] == [
        ("all-reduce bus bandwidth", "3.00 GB/s"), ("all-gather bus bandwidth", "2.00 GB/s"), ("barrier", "40.0 us")
    ]  # fmt: skip


def test_two_transports_are_two_cards():
    rows = [collective("all_reduce", 2**26, rate, backend=backend) for backend, rate in (("nccl", 3e9), ("mpi", 1e9))]
    assert [card.title for card in cards(rows)] == ["all-reduce over mpi bus bandwidth", "all-reduce over nccl bus bandwidth"]


def test_the_straggler_is_named_in_one_sentence():
    named = {"straggler_rank": 3, "straggler_hash": "a1b2", "straggler_ratio": 1.4, "flags": "one rank is slow"}
    rows = [*ROWS, *(collective("all_reduce", 2**e, 1e9, **named) for e in (10, 20, 26))]
    text = "\n".join(summary_lines(summarise(rows, normalise(rows))))
    assert "Straggler: rank 3 (a1b2) takes 1.40 times as long as the others for its own work, in 3 of 3 rows." in text


def test_ranks_that_take_turns_in_being_slow_or_hardly_are_no_stragglers():
    def of(rank, ratio):
        return collective("all_reduce", 2**20 + rank, 1e9, straggler_rank=rank, straggler_ratio=ratio, flags="one rank is slow")

    assert summarise([*ROWS, *(of(rank, 1.3) for rank in range(4))], normalise(ROWS)).warnings == ()
    assert summarise([*ROWS, of(1, 1.05)], normalise(ROWS)).warnings == ()


def test_the_bad_link_is_named_in_one_sentence():
    def pair(a, b, slower=1.0):
        return collective("send_recv", 2**26, 1e10 / slower * (1 + 0.01 * ((3 * a + 5 * b) % 4)), ranks=2, members=f"{a},{b}")

    healthy = [pair(a, b) for a in range(8) for b in range(a + 1, 8) if (a, b) != (2, 5)]
    assert summarise([*ROWS, *healthy, pair(2, 5)], normalise(ROWS)).warnings == ()
    (told,) = summarise([*ROWS, *healthy, pair(2, 5, slower=3)], normalise(ROWS)).warnings
    assert told.startswith("Send/receive over nccl, bandwidth: the link between ranks 2 and 5 is 2.9 times slower")


def test_a_chip_that_was_measured_too_little_is_told_what_is_missing():
    few = [matmul("bf16", 2048, 4e11)]
    summary = summarise(few, normalise(few))
    assert "cannot be told" in summary.sentence
    assert "measure copy first" in summary.sentence
    assert summary.cards
