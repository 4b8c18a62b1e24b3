"""Benchmarks of the cases that `chipassay run` measures, small enough for every CI run."""

from __future__ import annotations

import pytest

from chipassay.kernels.backends import installed
from chipassay.runners.devices.discover import Device, discover


@pytest.fixture(scope="session")
def device() -> Device:
    """The GPU if one is here, else the CPU through the fallbacks."""
    return discover()


@pytest.fixture(autouse=True)
def _torch_as_it_was():
    """Kernels set torch's switches for the whole process; other tests must not see them."""
    if not installed("torch"):
        yield
        return
    from chipassay.kernels.torch_settings import torch_as_it_was

    with torch_as_it_was():
        yield
