"""The best row of each case, and what each operation is to a reader of rows."""

from __future__ import annotations

import pytest

from chipassay.kernels.kernel import cases
from chipassay.kernels.overhead import LaunchCase
from chipassay.kernels.overhead.case import KERNELS
from chipassay.results.best import IMPOSSIBLE, best_rows
from chipassay.results.operations import LIMITED_BY, STREAM_OPS, limited_by, time_per_kernel_s
from chipassay.results.schema import Row
from chipassay.runners import plausibility

VALUES = {
    "op": ("matmul", "attention"), "layout": ("nn", "nt"), "scaling": ("per_tensor", "row_wise"), "groups": (8, 64),
    "split": ("even", "uneven"), "batch": (1, 2), "heads": (8, 16), "kv_heads": (1, 8), "seq_q": (1, 512), "seq_kv": (512, 1024),
    "head_dim": (64, 128), "head_dim_v": (None, 128), "causal": (True, False), "window": (None, 4096),
    "direction": ("forward", "backward"), "rows": (1, 2), "width": (1, 2), "table_rows": (1, 2),
    "path": ("host_to_device", "device_to_host"), "host_memory": ("pageable", "pinned"), "elements": (1, 2), "size_bytes": (8, 16),
    "group_size": (2, 4), "dtype": ("bf16", "fp16"), "math_mode": (None, "ieee"), "cache": ("cold", "warm"),
    "launch": ("stream", "graph"), "m": (1, 2), "n": (1, 2), "k": (1, 2), "chip_id": ("a", "b"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(VALUES))
def test_rows_that_differ_in_what_was_done_are_two_cases(name: str) -> None:
    one, other = (Row(status="ok", time_median_s=t, **{name: value}) for t, value in zip((1.0, 2.0), VALUES[name], strict=True))
    assert best_rows([one, other]) == [one, other]


def test_rows_that_differ_in_who_did_it_are_one_case() -> None:
    slow = Row(op="copy", status="ok", time_median_s=2.0, backend="torch", kernel="torch.copy_")
    fast = Row(op="copy", status="ok", time_median_s=1.0, backend="triton", kernel="triton.copy", config="BLOCK=4096")
    assert best_rows([slow, fast]) == best_rows([fast, slow]) == [fast]


def test_what_failed_or_was_not_timed_is_never_the_best() -> None:
    assert best_rows([Row(op="copy", status="incorrect", time_median_s=1.0), Row(op="copy", status="ok")]) == []


def test_a_row_above_a_physical_limit_counts_only_where_there_is_no_other() -> None:
    doubtful = Row(op="copy", status="ok", time_median_s=1.0, flags="throttled;above the memory's bandwidth")
    plain = Row(op="copy", status="ok", time_median_s=2.0)
    assert best_rows([doubtful, plain]) == [plain]
    assert best_rows([doubtful]) == [doubtful]


def test_a_throttled_kernel_that_is_faster_all_the_same_is_the_best() -> None:
    throttled, plain = Row(op="copy", status="ok", time_median_s=1.0, flags="throttled"), Row(op="copy", status="ok", time_median_s=2.0)
    assert best_rows([plain, throttled]) == [throttled]


def test_the_flags_of_a_run_that_name_a_physical_limit_are_known_by_their_first_word() -> None:
    limits = {plausibility.ABOVE_RATE, plausibility.ABOVE_BANDWIDTH}
    words = {value for name, value in vars(plausibility).items() if name.isupper() and isinstance(value, str)}
    assert limits == {word for word in words if word.startswith(IMPOSSIBLE)}


def test_every_operation_is_known_to_readers_as_its_case_says() -> None:
    told = {op: LIMITED_BY.get(op) for op in cases()}
    assert told == {op: case.limited_by for op, case in cases().items()}
    assert set(STREAM_OPS) <= set(LIMITED_BY)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (Row(op="my_product", flops=1e12, bytes=1e9), "compute"),
        (Row(op="my_norm", flops=1e9, bytes=1e9), "memory"),
        (Row(op="broadcast", group_size=4), "collective"),
        (Row(), "memory"),
    ],
)
def test_an_operation_that_nobody_knows_is_told_by_its_intensity(row: Row, kind: str) -> None:
    assert limited_by(row) == kind


def test_the_time_of_a_launch_is_that_of_its_call_over_its_kernels() -> None:
    row = Row(op="launch", bytes=LaunchCase(dtype="fp32").bytes, time_median_s=KERNELS * 3e-6)
    assert time_per_kernel_s(row) == pytest.approx(3e-6)
    assert time_per_kernel_s(Row(op="copy", bytes=8.0, time_median_s=1.0)) is None
