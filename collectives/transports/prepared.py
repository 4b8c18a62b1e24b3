"""What a call needs beside its two buffers (views of their parts, descriptions), made at the first call with them and kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any


class Prepared:
    """Remembers what ``make(send, receive, *rest)`` gave for these very tensors for as long as both of them live.

    So a timed call makes no tensor, and no entry keeps gigabytes alive: what ``make`` gives must not refer to the tensors themselves,
    only to their memory (``alias``).
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._kept: dict[Hashable, tuple[Any, ...]] = {}

    def __call__(self, send: Any, receive: Any, *rest: Hashable) -> Any:
        kept = self._kept.get((id(send), id(receive), *rest))
        return kept[0] if kept is not None else self._keep(send, receive, rest)

    def __len__(self) -> int:
        return len(self._kept)

    def _keep(self, send: Any, receive: Any, rest: tuple[Hashable, ...]) -> Any:
        key, kept = (id(send), id(receive), *rest), self._kept

        def forget(_: object) -> None:
            # Another tensor may get the same id afterwards.
            kept.pop(key, None)

        made = self._make(send, receive, *rest)
        kept[key] = (made, weakref.ref(send, forget), weakref.ref(receive, forget))
        return made


def alias(tensor: Any) -> Any:
    """Another tensor on the same memory, which does not know of the first."""
    return tensor.data


def overlap(one: Any, other: Any) -> bool:
    """Whether two contiguous buffers share memory: they lie in place."""
    one_begin, other_begin = one.data_ptr(), other.data_ptr()
    one_end = one_begin + one.numel() * one.element_size()
    other_end = other_begin + other.numel() * other.element_size()
    return bool(max(one_begin, other_begin) < min(one_end, other_end))
