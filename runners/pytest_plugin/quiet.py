"""Nothing in between while samples are taken: no tracer, no profiler, and no garbage collection where that is asked for."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(disable_gc: bool) -> Iterator[None]:
    """As pytest-benchmark holds it: coverage tools and debuggers trace each line, and would be what is timed."""
    tracer, profiler, collecting = sys.gettrace(), sys.getprofile(), gc.isenabled()
    sys.settrace(None)
    sys.setprofile(None)
    if disable_gc:
        gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        sys.setprofile(profiler)
        sys.settrace(tracer)
