"""A pickle of plain data, read without unpickling: its opcodes are walked, nothing that they name is looked up, imported or called."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

PLAIN = ("NONE", "BININT", "BININT1", "BININT2", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES")
"""Opcodes that push their own argument."""


@dataclass(frozen=True)
class Call:
    """A call that the pickle asks for and does not get."""

    name: str
    arguments: tuple[Any, ...]


def read_plain_pickle(content: bytes) -> Any:
    """The lists, dicts, numbers and texts of a pickle; a ``Call`` where an object would be made. ValueError for any other opcode.

    >>> import datetime, pickle
    >>> read_plain_pickle(pickle.dumps([{"a": 1.5, "b": None}, datetime.date(2020, 5, 14)]))
    [{'a': 1.5, 'b': None}, Call(name='datetime.date', arguments=(b'\\x07\\xe4\\x05\\x0e',))]
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: list[Any] = []
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in PLAIN:
            stack.append(argument)
        elif opcode.name == "MEMOIZE":
            memo.append(stack[-1])
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif opcode.name == "MARK":
            marks.append(len(stack))
        elif opcode.name == "EMPTY_LIST":
            stack.append([])
        elif opcode.name == "EMPTY_DICT":
            stack.append({})
        elif opcode.name in ("APPENDS", "SETITEMS"):
            start = marks.pop()
            items = stack[start:]
            del stack[start:]
            if opcode.name == "APPENDS":
                stack[-1].extend(items)
            else:
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif opcode.name in ("APPEND", "SETITEM"):
            value = stack.pop()
            if opcode.name == "APPEND":
                stack[-1].append(value)
            else:
                key = stack.pop()
                stack[-1][key] = value
        elif opcode.name == "TUPLE1":
            stack.append((stack.pop(),))
        elif opcode.name == "STACK_GLOBAL":
            name = stack.pop()
            stack.append(f"{stack.pop()}.{name}")
        elif opcode.name == "REDUCE":
            arguments = stack.pop()
            stack.append(Call(stack.pop(), arguments))
        elif opcode.name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"opcode {opcode.name} is not plain data")
    return stack[0]
