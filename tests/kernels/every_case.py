"""What the tests know of every operation, gathered from the ``cases_<room>.py`` files beside this one.

Each of those may define, by operation name:

* ``STRATEGIES``: a Hypothesis strategy of its cases, small enough that a reference takes milliseconds;
* ``SMALL``: one case's fields (without dtype) for a benchmark, and ``DTYPES``: the dtypes it is benchmarked in;

and ``INTERPRETED``: a list of cases for Triton's interpreter, every flag and odd shape among them.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any


@cache
def _rooms() -> tuple[ModuleType, ...]:
    modules = []
    for file in sorted(Path(__file__).parent.glob("cases_*.py")):
        spec = importlib.util.spec_from_file_location(f"chipassay_test_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules.append(module)
    return tuple(modules)


def gathered(name: str) -> dict[str, Any]:
    """The dictionaries of this name in all rooms, as one."""
    return {op: value for module in _rooms() for op, value in getattr(module, name, {}).items()}


def interpreted() -> list[Any]:
    """The cases of all rooms for Triton's interpreter."""
    return [case for module in _rooms() for case in getattr(module, "INTERPRETED", [])]
