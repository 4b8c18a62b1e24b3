"""Benchmarks of the cases that `chipassay run` measures, small enough for every CI run."""

from __future__ import annotations

import pytest

from chipassay.runners.devices.discover import Device, discover


@pytest.fixture(scope="session")
def device() -> Device:
    """The GPU if one is here, else the CPU through the fallbacks."""
    return discover()
