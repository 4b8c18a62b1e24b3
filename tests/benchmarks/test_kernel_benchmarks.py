"""One benchmark per operation, dtype and kernel: `pytest tests/benchmarks`. With --benchmark-disable each runs once, as a test.

The call is synchronised before the clock stops; groups put the kernels of one case side by side; `extra_info` holds what a row of the
results table would: case, kernel, error against the float64 reference, FLOPs and bytes.
"""

from __future__ import annotations

import pytest

from chipassay.kernels.backends import BACKENDS, library_versions, make_arrays, why_not
from chipassay.kernels.kernel import cases, kernels

from ..kernels.every_case import gathered

SMALL, DTYPES = gathered("SMALL"), gathered("DTYPES")


def test_every_operation_has_a_benchmark():
    assert set(SMALL) == set(cases()) == set(DTYPES)


@pytest.mark.parametrize(
    ("op", "dtype", "backend", "name"),
    [
        pytest.param(op, dtype, backend, k.name, id=f"{op}-{dtype}-{k.name}")
        for op, dtypes in DTYPES.items()
        for dtype in dtypes
        for backend in BACKENDS
        for k in kernels(op, backend)
    ],
)
def test_kernel(benchmark, device, op, dtype, backend, name):
    target = device.facts.target
    case = cases()[op](dtype=dtype, **SMALL[op])
    kernel = next(k for k in kernels(op, backend) if k.name == name)
    reason = why_not(backend, target) or kernel.refuses(case, target)
    if reason:
        pytest.skip(reason)
    arrays = make_arrays(backend, device.array_device)
    inputs, output = case.make_inputs(arrays, 1), case.make_output(arrays)
    call = kernel.prepare(case, arrays, inputs, output)
    check = case.check(arrays, inputs, call(), 1)
    assert check.passed, check

    benchmark.group = f"{op} {dtype}"
    benchmark.extra_info.update(
        case.columns(),
        chip_id=device.facts.chip_id,
        backend=backend,
        kernel=name,
        libraries=library_versions(backend),
        flops=case.flops,
        bytes=case.bytes,
        error=check.error,
        error_limit=check.limit,
        cache="warm",
    )

    def synchronised():
        call()
        arrays.synchronize()

    benchmark(synchronised)
