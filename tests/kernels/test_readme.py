"""The table of operations in kernels/README.md names every kernel there is, and none that is not."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from chipassay.kernels import kernel as kernel_module
from chipassay.kernels.kernel import cases, kernels

README = Path(kernel_module.__file__).with_name("README.md")


def expanded(name: str) -> list[str]:
    """The names that braces stand for, as a shell expands them: ``a{,.b}`` is a and a.b."""
    parts = [part[1:-1].split(",") if part.startswith("{") else [part] for part in re.split(r"(\{[^}]*\})", name)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def listed() -> dict[str, set[str]]:
    """Operation -> names of kernels, from the rows of the first table."""
    table = README.read_text(encoding="utf-8").split("| --- | --- | --- | --- |\n", 1)[1].split("\n\n", 1)[0]
    found = {}
    for line in table.splitlines():
        operation, _, _, names = (cell.strip() for cell in line.strip("|").split(" | "))
        found[re.findall(r"`([^`]+)`", operation)[0]] = {one for name in re.findall(r"`([^`]+)`", names) for one in expanded(name)}
    return found


def test_braces_expand_as_in_a_shell() -> None:
    assert expanded("a.{b,c}.d") == ["a.b.d", "a.c.d"]
    assert expanded("a{,.b}") == ["a", "a.b"]


@pytest.mark.parametrize("op", sorted(cases()))
def test_the_readme_lists_the_kernels_of(op: str) -> None:
    assert listed().get(op) == {kernel.name for kernel in kernels(op)}


def test_the_readme_lists_no_operation_that_is_not() -> None:
    assert set(listed()) == set(cases())
