"""What the memory-bound Triton kernels compile to: nothing spilled, memory accessed 16 bytes at a time where a thread has as much.

Each kernel is compiled for each chip with its heaviest layout, the one with most elements a thread; on one chip with its first one too.
``python tests/kernels/test_triton_memory.py sm_100`` compiles every layout that the tuner may try.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from chipassay.kernels.activation import triton as activation
from chipassay.kernels.adam import triton as adam
from chipassay.kernels.backends import installed, interpreting
from chipassay.kernels.cross_entropy import triton as cross_entropy
from chipassay.kernels.gather import triton as gather
from chipassay.kernels.memory import triton as memory
from chipassay.kernels.memory import triton_stream
from chipassay.kernels.norm import triton as norm
from chipassay.kernels.norm import triton_backward as norm_backward
from chipassay.kernels.softmax import triton as softmax

if __package__:
    from .compiling import CHIPS, Compiled, Job, broken_limits, cannot_compile, compile_all
else:  # as a script
    from compiling import CHIPS, Compiled, Job, broken_limits, cannot_compile, compile_all

pytestmark = [
    pytest.mark.skipif(
        not (installed("triton") and installed("torch")), reason="triton is not installed: pip install triton (Linux, with torch)"
    ),
    pytest.mark.skipif(interpreting(), reason="TRITON_INTERPRET is set"),
]

CHIP_NAMES = ("sm_80", "sm_90", "sm_100", "gfx942")
ROWS, WIDTHS, VOCABULARY = 4096, (1024, 4096, 8192, 16384, 32768), 128_256

BITS = {"bf16": "*i16", "fp32": "*i32"}
ADAM_NUMBERS = ("beta1", "rest1", "beta2", "rest2", "decay", "step_size", "root_factor", "epsilon")


@dataclass(frozen=True)
class Body:
    """A kernel, the types of its arguments by dtype, and its layouts. ``X`` is a pointer to the dtype, ``B`` to integers of its size."""

    module: Any
    name: str
    types: str
    """``x:X y:X elements:i32``."""
    layouts: Sequence[dict[str, int]]
    constants: dict[str, Any] = field(default_factory=dict)
    streams: bool = True
    """Whether it writes as it reads: then both must be wide; else what it writes is small."""

    def job(self, layout: dict[str, int], dtype: str, chip: str) -> Job:
        given = {"X": f"*{dtype}", "B": BITS[dtype], "F": "*fp32", "I": "*i64"}
        types = {name: given.get(kind, kind) for name, _, kind in (part.partition(":") for part in self.types.split())}
        options = {name: value for name, value in layout.items() if name.startswith("num_")}
        constants = {name: value for name, value in layout.items() if name.isupper() and name != "PROGRAMS_PER_CORE"}
        constants = {**self.constants, **constants}
        kernel = f"{self.module.__name__}:{self.name}"
        label = f"{self.name} {dtype} {chip} {' '.join(f'{k}={v}' for k, v in {**constants, **options}.items())}"
        return Job(label, kernel, chip, types, constants, options)

    @property
    def heaviest(self) -> dict[str, int]:
        return max(self.layouts, key=elements_per_thread)


def elements_per_thread(layout: dict[str, int], warp: int = 32) -> float:
    return layout.get("ROWS", 1) * layout["BLOCK"] / (warp * layout["num_warps"])


def by_kind(layouts: Callable[[int, int], list[dict[str, int]]]) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Layouts for rows of all WIDTHS: those that hold a row whole, and those that go over it."""
    found = [(layout, width) for width in WIDTHS for layout in layouts(ROWS, width)]
    return [x for x, width in found if x["BLOCK"] >= width], [x for x, width in found if x["BLOCK"] < width]


def bodies() -> Iterator[Body]:
    """Every kernel; of the norms LayerNorm, which is RMSNorm and more."""
    layouts: Sequence[dict[str, int]] = triton_stream.CONFIGS
    yield Body(memory, "copy_block", "a:B c:B elements:i32", layouts)
    yield Body(memory, "scale_block", "a:X c:X elements:i32 scalar:fp32", layouts)
    yield Body(memory, "triad_block", "a:X b:X c:X elements:i32 scalar:fp32", layouts)
    yield Body(memory, "read_blocks", "a:X sums:F elements:i32", memory.READ_CONFIGS, streams=False)
    yield Body(activation, "gelu_block", "x:X y:X elements:i32 factor:fp32 cubic:fp32", layouts)
    yield Body(activation, "swiglu_block", "a:X b:X c:X elements:i32", layouts)
    numbers = " ".join(f"{name}:fp32" for name in ADAM_NUMBERS)
    yield Body(adam, "adam_block", f"p:X m:F v:F g:X elements:i32 {numbers}", adam.LAYOUTS)

    (whole, looped), rest, centred = by_kind(norm.forward_layouts), "rows:i32 width:i32 epsilon:fp32", {"CENTRED": True}
    yield Body(norm, "norm_rows", f"x:X w:X b:X y:X {rest}", whole, centred)
    yield Body(norm, "norm_wide", f"x:X w:X b:X y:X {rest}", looped, centred)
    whole, looped = by_kind(norm_backward.backward_layouts)
    yield Body(norm_backward, "gradient_rows", f"x:X w:X dy:X dx:X shares:F {rest}", whole, centred)
    yield Body(norm_backward, "gradient_wide", f"x:X w:X dy:X dx:X statistics:F {rest}", looped, centred)
    types = "x:X dy:X statistics:F shares:F rows:i32 width:i32 chunk:i32"
    yield Body(norm_backward, "gradient_columns", types, [norm_backward.COLUMNS], centred, streams=False)
    yield Body(norm_backward, "add_shares", "shares:F dw:X db:X count:i32 width:i32", [norm_backward.ADDING], streams=False)

    whole, looped = by_kind(softmax.layouts)
    yield Body(softmax, "softmax_rows", "x:X y:X rows:i32 width:i32", whole)
    yield Body(softmax, "softmax_wide", "x:X y:X rows:i32 width:i32", looped)
    layouts = cross_entropy.forward_layouts(VOCABULARY)
    yield Body(cross_entropy, "loss_rows", "x:X targets:I losses:F width:i32", layouts, {"LOSS": True}, streams=False)
    layouts = cross_entropy.backward_layouts(VOCABULARY)
    yield Body(cross_entropy, "gradient_block", "x:X targets:I log_sums:F dx:X width:i32", layouts)
    yield Body(gather, "gather_tile", "table:B ids:I out:B rows:i32 width:i32", gather.layouts(8192))


PACKS = r"\.(?:v4\.b32|v2\.b64|v8\.b32|v4\.b64)"


def wide_accesses(made: Compiled, chip: str) -> tuple[int, int]:
    """Loads (to registers, or straight to shared memory) and stores of 16 bytes (Blackwell: 32)."""
    if CHIPS[chip].backend == "hip":
        patterns = r"(?:global|buffer)_load_dwordx4", r"(?:global|buffer)_store_dwordx4"
    else:
        patterns = rf"ld\.global\S*{PACKS}|cp\.async\S* \[[^\]]*\], \[[^\]]*\], 0x10", rf"st\.global\S*{PACKS}"
    loads, stores = (len(re.findall(pattern, made.text)) for pattern in patterns)
    return loads, stores


def faults(body: Body, job: Job, made: Compiled) -> list[str]:
    """What is wrong with a compiled kernel."""
    found = broken_limits(job, made)
    if found:
        return found
    dtype = 2 if " bf16 " in job.name else 4
    layout = {**job.constants, **job.options}
    if elements_per_thread(layout, CHIPS[job.chip].warp_size) * dtype < 16:
        return []
    loads, stores = wide_accesses(made, job.chip)
    return ([] if loads else ["no load of 16 bytes"]) + ([] if stores or not body.streams else ["no store of 16 bytes"])


def judged(pairs: list[tuple[Body, Job]]) -> dict[str, list[str]]:
    """Job name -> faults, of those that have any."""
    made = compile_all([job for _, job in pairs])
    wrong = {job.name: faults(body, job, made[job.name]) for body, job in pairs}
    return {name: found for name, found in wrong.items() if found}


@pytest.mark.parametrize("chip", CHIP_NAMES)
def test_the_heaviest_layout_of_each_kernel_fits_the_chip_and_moves_16_bytes_at_a_time(chip: str) -> None:
    reason = cannot_compile(chip)
    if reason is not None:
        pytest.skip(reason)
    assert judged([(body, body.job(body.heaviest, "bf16", chip)) for body in bodies()]) == {}


def test_the_first_layout_of_each_kernel_moves_16_bytes_at_a_time_in_fp32() -> None:
    """The first is what a tuner with no time takes."""
    reason = cannot_compile("sm_90")
    if reason is not None:
        pytest.skip(reason)
    assert judged([(body, body.job(dict(body.layouts[0]), "fp32", "sm_90")) for body in bodies()]) == {}


def test_an_array_of_any_length_is_moved_16_bytes_at_a_time() -> None:
    """A length that is no multiple of 16 would turn every masked access into one of an element."""
    body = next(body for body in bodies() if body.name == "copy_block")
    job = replace(body.job(dict(body.layouts[0]), "bf16", "sm_90"), unaligned=("elements",))
    assert judged([(body, job)]) == {}


def test_streamed_data_is_marked_to_leave_the_caches_first() -> None:
    body = next(body for body in bodies() if body.name == "copy_block")
    jobs = [body.job({**body.layouts[0], "STREAM": stream}, "bf16", "sm_90") for stream in (0, 1)]
    plain, stream = (compile_all(jobs)[job.name].text for job in jobs)
    assert "evict_first" in stream
    assert ".cs" in stream
    assert "evict_first" not in plain
    assert ".cs" not in plain


def test_what_a_search_writes_does_not_hide_what_a_call_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    first, second = torch.full((5,), float("nan")), torch.full((3,), float("nan"))

    def search(name: str, key: Any, configs: Any, run: Any, cost: Any = None) -> dict[str, int]:
        for config in configs:
            run(config)
        return dict(configs[-1])

    def launch(config: dict[str, int], *outputs: Any) -> None:
        assert [len(output) for output in outputs] == [5, 3]
        for output in outputs:
            output.fill_(config["BLOCK"])

    monkeypatch.setattr(triton_stream, "tuned", search)
    assert triton_stream.choose("any", {}, [{"BLOCK": 1}, {"BLOCK": 2}], (first, second), launch) == {"BLOCK": 2}
    assert torch.isnan(first).all()
    assert torch.isnan(second).all()


@pytest.mark.parametrize("width", [1, 1000, 4096, 16384, 16385, 300_000])
def test_every_row_has_a_layout_and_no_layout_comes_twice(width: int) -> None:
    for layouts in (norm.forward_layouts, norm_backward.backward_layouts, softmax.layouts):
        found = layouts(ROWS, width)
        assert found
        assert len({tuple(sorted(layout.items())) for layout in found}) == len(found)
        assert all(layout["BLOCK"] >= width or layout["ROWS"] == 1 for layout in found)
    assert cross_entropy.forward_layouts(width)
    assert cross_entropy.backward_layouts(width)
    assert gather.layouts(width)


if __name__ == "__main__":
    for chip in sys.argv[1:] or CHIP_NAMES:
        sys.path.insert(0, str(Path(__file__).parent))
        named: dict[str, tuple[Body, Job]] = {}
        for body, dtype in itertools.product(bodies(), ("bf16", "fp32")):
            for layout in body.layouts:
                job = body.job(dict(layout), dtype, chip)
                named[job.name] = body, job
        wrong = judged(list(named.values()))
        print(f"{chip}: {len(named)} compiled, {len(wrong)} wrong", *(f"{name}: {found}" for name, found in wrong.items()), sep="\n  ")
