"""Suites: which cases are measured, as data (`*.toml`), and how a suite becomes a list of wanted measurements."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chipassay.collectives.groups import ALL, PAIRS, PLACEMENTS
from chipassay.results.errors import FileError, InputError, UnknownName

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent

COLLECTIVE_DTYPE_BYTES = {"fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1, "int8": 1}
"""Element types of collectives and their size."""

HALF = "half"
"""In a suite: the 16-bit dtype that the chip trains in, bf16 where its arithmetic has that, else fp16 (P100, V100, T4)."""

BLOCK_SETTINGS = ("op", "on", "backends", "cache", "launch", "ranks", "placement", "at_once", "in_place", "beside")
"""Keys of a block that are not axes."""

COLLECTIVE_SETTINGS = ("ranks", "placement", "at_once", "in_place", "beside")
"""Those that only a collective has: a value or a list of values each."""

CACHES = ("cold", "warm")
LAUNCHES = ("stream", "graph")


@dataclass(frozen=True)
class Wanted:
    """One case that a suite asks for. ``backends`` None: every backend that can run here; ``ranks``: a collective; ``launch``:
    ``stream`` (on a CPU: a call) or ``graph``."""

    op: str
    axes: Mapping[str, Any]
    cache: str
    backends: tuple[str, ...] | None = None
    ranks: str | int | None = None
    launch: str = "stream"
    placement: str = "inside"
    """Of a group of some of the ranks: ``inside`` a node or ``across`` nodes."""
    at_once: bool = False
    """As many such groups as there are ranks for, at the same time."""
    in_place: bool | None = None
    """Whether the output buffer is the input buffer. None: where the pattern can, as training does it."""
    beside: Mapping[str, Any] | None = None
    """The matrix product that runs at the same time."""


@dataclass(frozen=True)
class Suite:
    """A named list of wanted measurements. ``min_time_s``: samples of one case span at least this long."""

    name: str
    min_time_s: float
    wanted: tuple[Wanted, ...]
    time_cap_s: float | None = None
    """Measuring one case takes no longer, however imprecise: for suites whose times are a by-product. None: as the budget allows."""


def names() -> list[str]:
    """The suites that ship."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def load_suite(name: str, device_kind: str, native_dtypes: Collection[str] | None = None) -> Suite:
    """The suite's measurements for a device of this kind that computes in ``native_dtypes`` (None: unknown, taken to have bf16).

    ``name`` is one of ``names()`` or the path of a .toml file. Raises UnknownName, or FileError naming the block.
    """
    path = Path(name) if name.endswith(".toml") else HERE / f"{name}.toml"
    if not name.endswith(".toml") and name not in names():
        raise UnknownName("suite", name, names())
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend=f"suites that ship: {', '.join(names())}") from error
    except tomllib.TOMLDecodeError as error:
        raise FileError(path, f"not TOML: {error}") from error
    half = "bf16" if native_dtypes is None or "bf16" in native_dtypes else "fp16"
    side = "cpu" if device_kind == "cpu" else "gpu"
    wanted: list[Wanted] = []
    blocks, min_time_s = data.get("block", []), data.get("min_time_s", 1.0)
    if not isinstance(blocks, list):
        raise FileError(path, "block is one table where a list of them belongs", mend="write [[block]]")
    time_cap_s = data.get("time_cap_s")
    for setting, value in (("min_time_s", min_time_s), ("time_cap_s", 0.0 if time_cap_s is None else time_cap_s)):
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise FileError(path, f"{setting} is {value!r}", mend="write a number of seconds")
    for position, block in enumerate(blocks, start=1):
        if block.get("on", side) == side:
            try:
                wanted += _expand(block, half)
            except (KeyError, TypeError, ValueError) as error:
                raise FileError(path, f"block {position}: {error}", mend="see runners/suites/README.md") from error
    return Suite(path.stem, float(min_time_s), tuple(wanted), None if time_cap_s is None else float(time_cap_s))


def _expand(block: Mapping[str, Any], half: str) -> Iterable[Wanted]:
    ops = block["op"] if isinstance(block["op"], list) else [block["op"]]
    axes = {name: values for name, values in block.items() if name not in BLOCK_SETTINGS}
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"axis {name!r} must be a list that is not empty")
    axes = {name: [half if name == "dtype" and value == HALF else value for value in values] for name, values in axes.items()}
    caches = block.get("cache", ["cold"])
    if not isinstance(caches, list) or not caches or not set(caches) <= set(CACHES):
        raise ValueError(f"cache is {caches!r}; write a list of cold and warm")
    launches = block.get("launch", ["stream"])
    if not isinstance(launches, list) or not launches or not set(launches) <= set(LAUNCHES):
        raise ValueError(f"launch is {launches!r}; write a list of stream and graph")
    collective = _collective_settings(block, half) if "ranks" in block else [{}]
    if "ranks" in block and not set(axes.get("dtype", [])) <= set(COLLECTIVE_DTYPE_BYTES):
        raise ValueError(f"dtype {axes['dtype']}: a collective takes {', '.join(COLLECTIVE_DTYPE_BYTES)}")
    for op in ops:
        for values in itertools.product(*axes.values()):
            point = _fields(dict(zip(axes, values, strict=True)))
            backends = tuple(block["backends"]) if "backends" in block else None
            for cache, launch, settings in itertools.product(caches, launches, collective):
                yield Wanted(op=op, axes=point, cache=cache, backends=backends, launch=launch, **settings)


def _collective_settings(block: Mapping[str, Any], half: str) -> list[dict[str, Any]]:
    """Every combination of what a collective's block says beside its axes. Raises ValueError with what is wrong."""
    lists = {name: block[name] if isinstance(block[name], list) else [block[name]] for name in COLLECTIVE_SETTINGS if name in block}
    for want in lists["ranks"]:
        if want not in (ALL, PAIRS) and (isinstance(want, bool) or not isinstance(want, int) or want < 2):
            raise ValueError(f"ranks is {want!r}; write all, pairs, or how many (at least 2)")
    for placement in lists.get("placement", []):
        if placement not in PLACEMENTS:
            raise ValueError(f"placement is {placement!r}; write {' or '.join(PLACEMENTS)}")
    for name in ("at_once", "in_place"):
        if not all(isinstance(value, bool) for value in lists.get(name, [])):
            raise ValueError(f"{name} is {block[name]!r}; write true, false or a list of both")
    for product in lists.get("beside", []):
        if not isinstance(product, dict) or set(product) != {"mnk", "dtype"}:
            raise ValueError(f'beside is {product!r}; write {{mnk = [4096, 4096, 4096], dtype = "bf16"}}')
    lists["beside"] = [
        _fields({**product, "dtype": half if product["dtype"] == HALF else product["dtype"]}) for product in lists.get("beside", [])
    ] or [None]
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def _fields(point: dict[str, Any]) -> dict[str, Any]:
    """Axes that stand for several fields: ``mnk`` for m, n and k; ``seq`` for as many queries as keys."""
    if "mnk" in point:
        point["m"], point["n"], point["k"] = point.pop("mnk")
    if "seq" in point:
        point["seq_q"] = point["seq_kv"] = point.pop("seq")
    return point


def with_states(suite: Suite, *, caches: Sequence[str] = (), launches: Sequence[str] = ()) -> Suite:
    """The suite with each case measured in these cache states and launched in these ways instead of its own (none given: as it is).

    What runs beside something else is launched as the suite says.
    """
    found: dict[str, Wanted] = {}
    for wanted in suite.wanted:
        ways = launches if launches and wanted.beside is None else (wanted.launch,)
        for cache, launch in itertools.product(caches or (wanted.cache,), ways):
            one = replace(wanted, cache=cache, launch=launch)
            # A case that the suite wants in both states is still one case.
            found.setdefault(repr(one), one)
    return replace(suite, wanted=tuple(found.values()))


def select(suite: Suite, only: Sequence[str] | None, known: Iterable[str]) -> Suite:
    """The part of the suite whose operations are in ``only`` (None: all). Raises UnknownName for an op nobody knows."""
    if not only:
        return suite
    operations = {wanted.op for wanted in suite.wanted} | set(known)
    for op in only:
        if op not in operations:
            raise UnknownName("op", op, operations)
    chosen = tuple(wanted for wanted in suite.wanted if wanted.op in only)
    if not chosen:
        has = ", ".join(sorted({wanted.op for wanted in suite.wanted}))
        raise InputError(f"suite {suite.name} has no {' or '.join(only)} for this device; it has {has}")
    return replace(suite, wanted=chosen)
