"""Where arrays lie: a function of the host must not be timed by events of a chip that it never uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def on_host_alone(values: Iterable[Any]) -> bool:
    """Whether there are arrays among the values, and all lie in the host's memory.

    >>> import numpy as np
    >>> on_host_alone([np.ones(2), {"scale": 3.0}]), on_host_alone([3.0, None])
    (True, False)
    """
    places = [_place(array) for array in _arrays(values)]
    return bool(places) and all(place == "cpu" for place in places)


def _arrays(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            yield value
        elif isinstance(value, dict):
            yield from _arrays(value.values())
        elif isinstance(value, tuple | list):
            yield from _arrays(value)


def _place(array: Any) -> str:
    """``cpu`` or another word: torch's ``device.type``, JAX's ``device.platform``; CuPy has a number, NumPy before 2.0 nothing."""
    device = getattr(array, "device", "cpu")
    return str(getattr(device, "type", None) or getattr(device, "platform", None) or device)
