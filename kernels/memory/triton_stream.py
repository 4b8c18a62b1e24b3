"""What the elementwise Triton kernels share: how they are laid over an array, and the layouts a tuner tries.

A program handles BLOCK neighbouring elements; a thread of it several pieces of 16 bytes, all loaded before the first is stored, for
memory answers after some 600 ns and a chip needs megabytes in flight to hide that (Little's law: 3.35 TB/s x 600 ns = 2 MB). Programs
with a whole block run without masks, so that any length keeps 16-byte accesses. What is read or written once need not stay in a cache:
``STREAM`` marks it so. Run on an H200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..arrays import Array, Output, each
from ..backends import interpreting
from ..kernel import Call
from ..triton_tools import launcher, named, options
from ..tuning import tuned

CONFIGS: tuple[dict[str, int], ...] = tuple(
    {"BLOCK": block, "STREAM": stream, "num_warps": warps}
    for block, warps in ((2048, 4), (4096, 4), (8192, 8), (1024, 4), (4096, 8), (8192, 4), (16384, 8), (2048, 8))
    for stream in (1, 0)
)
"""Layouts to try on a GPU. The first is what the interpreter runs."""


def launch_options(config: Mapping[str, int]) -> dict[str, Any]:
    """The constants and options of a launch; Triton's interpreter knows no warps."""
    without = ("num_warps", "num_stages") if interpreting() else ()
    return {**{name: value for name, value in config.items() if name not in without}, **options()}


def size_class(elements: int) -> int:
    """Sizes that share a tuned choice: the next power of two.

    >>> size_class(1000)
    1024
    """
    return 1 << max(elements - 1, 0).bit_length()


def choose(
    name: str,
    key: Mapping[str, str | int | bool],
    configs: Sequence[dict[str, int]],
    output: Output,
    launch: Callable[..., Any],
) -> dict[str, int]:
    """The tuned choice for ``launch(config, *outputs)``, searched on outputs of its own: what the search writes must not hide from the
    check what a call leaves out."""
    scratch: list[Array] = []

    def attempt(config: Mapping[str, int]) -> None:
        if not scratch:
            scratch.extend(array.new_zeros(array.shape) for array in each(output))
        launch(dict(config), *scratch)

    return tuned(name, key, configs, attempt)


def elementwise(
    name: str, dtype: str, elements: int, output: Output, launch: Callable[..., Any], configs: Sequence[dict[str, int]] = CONFIGS
) -> Call:
    """A tuned call of the elementwise ``launch(config, *outputs)``."""
    config = choose(name, {"dtype": dtype, "elements": size_class(elements)}, configs, output, launch)
    return named(launcher(lambda out: launch(config, *each(out)), output), config)


def grid(elements: int, config: Mapping[str, int]) -> tuple[int]:
    """A program for each block.

    >>> grid(4097, {"BLOCK": 4096})
    (2,)
    """
    return (-(-elements // config["BLOCK"]),)


def bits(array: Array) -> Array:
    """The array as integers of the same size: what moves elements without looking at them takes every dtype on every chip."""
    import torch

    return array.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[array.element_size()])
