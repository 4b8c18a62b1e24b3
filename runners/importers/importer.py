"""What an importer is, what it is told, what it gives back; and the provenance that each imported row carries."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from chipassay.results.catalogue import identify
from chipassay.results.errors import FileError, UnknownName
from chipassay.results.schema import SCHEMA_VERSION, Row, case_key

HASH_DIGITS = 16
HEAD_BYTES = 2**16
"""What an importer sees of a file when it is asked whether it knows it."""


@dataclass(frozen=True)
class Hints:
    """What the user knows and a tool's output may not tell. What the file itself says wins."""

    chip_id: str | None = None
    device_name: str | None = None
    node_count: int | None = None
    fabric: str | None = None


@dataclass(frozen=True)
class Imported:
    """``unmapped``: what found no place in a row, in sentences that name line or record, alike ones counted."""

    rows: tuple[Row, ...]
    unmapped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Importer:
    """One tool's output. ``recognises`` is given the file's path and its first HEAD_BYTES; ``read`` raises FileError for what is broken."""

    kind: str
    """As the command line calls it: ``nccl-tests``."""
    title: str
    recognises: Callable[[Path, bytes], bool]
    read: Callable[[Path, Hints], Imported]


@cache
def importers() -> Mapping[str, Importer]:
    """All importers by kind: each module of this folder that has an ``IMPORTER``."""
    package = importlib.import_module(__package__)
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        importer = getattr(importlib.import_module(f"{__package__}.{module.name}"), "IMPORTER", None)
        if importer is not None:
            found[importer.kind] = importer
    return found


def find_importer(kind: str) -> Importer:
    """Raises UnknownName."""
    if kind not in importers():
        raise UnknownName("kind of file", kind, importers())
    return importers()[kind]


def recognise(path: Path) -> Importer | None:
    """The importer that knows this file. Raises FileError when it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of an existing file") from error
    return next((importer for importer in importers().values() if importer.recognises(path, head)), None)


def provenance(path: Path, tool: str, tool_version: str | None) -> dict[str, Any]:
    """The columns that every imported row carries: which tool, its version, and which file, by the hash of its bytes.

    ``run_id`` is that hash, too: one file is one run.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:HASH_DIGITS]
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of an existing file") from error
    return {"schema_version": SCHEMA_VERSION, "tool": tool, "tool_version": tool_version, "source_hash": digest, "run_id": digest[:12]}


def chip_columns(hints: Hints, device_name: str | None, device_kind: str | None, memory_bytes: int | None = None) -> dict[str, Any]:
    """The columns that say which chip it was. A name that the catalogue knows wins over the hint, the hint over a name it does not.

    >>> chip_columns(Hints(chip_id="h20-sxm-96gb"), "NVIDIA H20", "cuda")["chip_id"]
    'h20-sxm-96gb'
    >>> chip_columns(Hints(chip_id="h20-sxm-96gb"), "NVIDIA H100 80GB HBM3", "cuda")["chip_id"]
    'h100-sxm-80gb'
    """
    from chipassay.runners.devices.facts import slug

    name = device_name or hints.device_name
    chip = identify(name, memory_bytes) if name else None
    return {
        "chip_id": chip.id if chip else hints.chip_id or (slug(name) if name else None),
        "device_name": name,
        "device_kind": device_kind,
        "device_memory_bytes": memory_bytes,
    }


def variant_of(pairs: Iterable[tuple[Any, Any]]) -> str | None:
    """The ``variant`` column: names and values, whatever they hold. None where there is none.

    >>> variant_of([("T", "I32"), ("Elements", 65536), ("note", "a;b")])
    'T=I32;Elements=65536;note=a,b'
    """
    return ";".join(f"{name}={value}".replace(";", ",") for name, value in pairs) or None


def repeats_apart(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The same rows, those of a case that occurs again as runs of their own (``run_id`` with ``-2``, ``-3``, ...).

    Readers of a table take the latest row of each case and run: what was measured twice would be lost.
    """
    seen: Counter[tuple[Any, ...]] = Counter()
    kept = []
    for row in rows:
        key = (row.run_id, row.chip_id, row.device_index, case_key(row))
        seen[key] += 1
        kept.append(row if seen[key] == 1 else replace(row, run_id=f"{row.run_id}-{seen[key]}"))
    return tuple(kept)
