"""The ``chip_benchmark`` fixture, where pytest-benchmark is missing: it says so."""

from __future__ import annotations

from typing import NoReturn

import pytest


@pytest.fixture
def chip_benchmark() -> NoReturn:
    """Needs pytest-benchmark."""
    pytest.fail(
        "chip_benchmark needs pytest-benchmark 4.0 or newer, which is not installed or not loaded; "
        "pip install pytest-benchmark, and leave out -p no:benchmark",
        pytrace=False,
    )
