"""Runs the Triton matmul kernels in the interpreter on random cases and in every form that a configuration can ask for.

Started by test_triton_matmul.py in a process of its own, as ``interpret_triton.py`` is; prints a line for each form: its name and how many
cases. The first failure ends it, with the case in the error's text.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.kernels.backends import make_arrays
from chipassay.kernels.kernel import Kernel, Target, kernels
from chipassay.kernels.matmul import BatchedMatmulCase, GroupedMatmulCase, MatmulCase
from chipassay.kernels.matmul import triton_configs as configs
from chipassay.kernels.triton_tools import refuses_descriptors

ARRAYS = make_arrays("triton", "cpu")
CPU = Target("cpu")
sides = st.integers(1, 100)
# Multiples of 16 elements are rows that TMA takes, in every dtype.
aligned = st.integers(1, 6).map(lambda count: 16 * count)
dtypes = st.sampled_from(("fp32", "tf32", "fp16", "bf16", "int8", "fp8_e4m3", "fp8_e5m2"))
plain = st.sampled_from(("fp32", "fp16", "bf16", "int8"))
layouts = st.sampled_from(("nn", "nt", "tn"))


@st.composite
def products(draw: st.DrawFn, side: st.SearchStrategy[int]) -> MatmulCase:
    dtype = draw(dtypes)
    scaling = draw(st.sampled_from(("per_tensor", "row_wise"))) if dtype.startswith("fp8") else None
    return MatmulCase(m=draw(side), n=draw(side), k=draw(side), layout=draw(layouts), dtype=dtype, scaling=scaling)


batches = st.builds(BatchedMatmulCase, groups=st.integers(1, 3), m=sides, n=sides, k=sides, dtype=plain, layout=layouts)
experts = st.builds(
    GroupedMatmulCase,
    groups=st.integers(1, 9),
    m=sides,
    n=sides,
    k=sides,
    dtype=plain,
    layout=st.sampled_from(("nn", "nt")),
    split=st.sampled_from(("even", "uneven")),
)


def check(kernel: Kernel, case: Any, seed: int) -> None:
    reason = kernel.refuses(case, CPU)
    assert reason is None, f"{kernel.name} refuses {case}: {reason}"
    inputs, buffer = case.make_inputs(ARRAYS, seed), case.make_output(ARRAYS)
    found = case.check(ARRAYS, inputs, kernel.prepare(case, ARRAYS, inputs, buffer)(), seed)
    assert found.passed, f"{kernel.name}, {case}, seed {seed}: {found}"


def on_random_cases(kernel: Kernel, cases: st.SearchStrategy[Any], examples: int, form: str = "") -> None:
    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(case=cases, seed=st.integers(0, 2**31))
    def run(case: Any, seed: int) -> None:
        check(kernel, case, seed)

    run()
    print(kernel.name, form, examples, flush=True)


if __name__ == "__main__":
    by_name = {kernel.name: kernel for kernel in kernels(backend="triton")}
    on_random_cases(by_name["triton.matmul"], products(sides), 20)
    on_random_cases(by_name["triton.matmul.split_k"], products(sides), 15)
    on_random_cases(by_name["triton.batched_matmul"], batches, 10)
    on_random_cases(by_name["triton.grouped_matmul"], experts, 20)
    if refuses_descriptors(CPU) is None:
        for parts, host in itertools.product((0, 1, 2), (0, 1)):
            configs.PERSISTENT_TILES["interpreter"] = ((32, 64, 4, 1, parts, 0, 0, host),)
            on_random_cases(by_name["triton.matmul.persistent"], products(aligned), 6, f"SUBTILES={parts} HOST={host}")
