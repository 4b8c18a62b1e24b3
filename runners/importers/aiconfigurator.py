"""The measured tables of NVIDIA's package aiconfigurator-core (``systems/data/<chip>/<operation>/<framework>/<version>/*.parquet``):
products, attention, NCCL and the frameworks' own all-reduce.

Fused layers (mixtures of experts, latent attention, state space models) are several operations in one time and are counted as unmapped.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import ChipassayError, FileError, InputError, UnknownName
from chipassay.results.schema import KEY_NAMES, Row

from .aiconfigurator_tables import TABLES, Table
from .importer import Hints, Imported, Importer, provenance
from .source import quoted
from .unmapped import Unmapped

if TYPE_CHECKING:
    import pandas

TOOL, PACKAGE = "aiconfigurator-core", "aiconfigurator_core"

SYSTEMS = {
    "a100_sxm": "a100-sxm-80gb",
    "b200_sxm": "b200-sxm-180gb",
    "b300_sxm": "b300-sxm-288gb",
    "gb200": "gb200",
    "gb300": "gb300",
    "h100_sxm": "h100-sxm-80gb",
    "h200_sxm": "h200-sxm-141gb",
    "l40s": "l40s-pcie-48gb",
    "rtx_pro_6000_server": "rtx-pro-6000-blackwell-server",
}
"""The package's names of chips -> ours, by the device names in its tables."""

MEND = "give a table of aiconfigurator-core, or a chip's name as in `chipassay import aiconfigurator h200_sxm/gemm`"

FOOTER_BYTES = 2**16


def recognises(path: Path, head: bytes) -> bool:
    """A parquet file whose list of columns, at its end, has the names that every table of the package has."""
    if not head.startswith(b"PAR1"):
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - FOOTER_BYTES))
        footer = file.read()
    return all(name in footer for name in (b"op_name", b"kernel_source", b"latency"))


def read(path: Path, hints: Hints) -> Imported:
    """Rows of one table, of all tables in a folder, or of a chip of the installed package (``h200_sxm``, ``h200_sxm/gemm``).

    Raises FileError for a broken table, UnknownName for a chip that the package has not, InputError without the package or pyarrow.
    """
    try:
        import pyarrow.parquet  # noqa: F401 (pandas reads with it)
    except ImportError as error:
        raise InputError(f"{path}: reading parquet needs pyarrow; pip install chipassay[aiconfigurator]") from error
    unmapped = Unmapped()
    rows = [row for file in _files(path) for row in _rows(file, hints, unmapped)]
    return Imported(tuple(rows), unmapped.sentences())


def data_folder() -> Path | None:
    """Where the installed package keeps its tables; it is not imported for that."""
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.submodule_search_locations[0]) / "systems" / "data" if spec and spec.submodule_search_locations else None


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(path.rglob("*.parquet"))
        if not files:
            raise FileError(path, "has no parquet files in it", mend=MEND)
        return files
    if path.suffix == ".parquet" or path.is_absolute():
        raise FileError(path, "does not exist", mend=MEND)
    data = data_folder()
    if data is None:
        raise InputError(f"{path}: no such file, and no package with such a chip; pip install chipassay[aiconfigurator]")
    system, *rest = path.parts
    system = next((theirs for theirs, ours in SYSTEMS.items() if ours == system.lower()), system)
    files = sorted(data.joinpath(system, *rest).rglob("*.parquet")) if ".." not in path.parts else []
    if not files:
        folder = data / system if rest and system not in ("", "..") and (data / system).is_dir() else data
        known = [str(entry.relative_to(data)) for entry in folder.iterdir() if any(entry.rglob("*.parquet"))]
        raise UnknownName("chip of aiconfigurator-core", str(path), known)
    return files


def _where(file: Path) -> str:
    """The part of a path that names a table: ``h200_sxm/gemm/vllm/0.24.0/gemm_perf.parquet``."""
    data = data_folder()
    return str(file.relative_to(data)) if data is not None and file.is_relative_to(data) else str(file)


def _rows(file: Path, hints: Hints, unmapped: Unmapped) -> list[Row]:
    import pyarrow.parquet

    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        names = parquet.schema_arrow.names
        table = next((t for t in TABLES if {"op_name", "kernel_source", "latency", t.dtype_column} <= set(names)), None)
        frame = None if table is None else parquet.read().to_pandas()
    except Exception as error:  # Arrow's own errors, and those of whatever codec a damaged file names
        raise FileError(file, f"is no whole parquet file ({type(error).__name__})", mend=MEND) from error
    if frame is None:
        stem = file.stem.removesuffix("_perf")
        unmapped.add(f"{stem}: no such operation here, or several in one time", _where(file), parquet.metadata.num_rows)
        return []
    try:
        parts = [_mapped(file, part, str(op_name), hints, unmapped) for op_name, part in frame.groupby("op_name", dropna=False, sort=False)]
    except ChipassayError:
        raise
    except Exception as error:  # pandas and Arrow have many, also for texts that are damaged and looked at only now
        raise FileError(file, f"has other columns than aiconfigurator's tables ({quoted(str(error))})", mend=MEND) from error
    return [row for part in parts for row in part]


def _mapped(file: Path, f: pandas.DataFrame, op_name: str, hints: Hints, unmapped: Unmapped) -> list[Row]:
    """Rows of one operation of a table."""
    import pandas

    table = next((t for t in TABLES if op_name in t.op_names and t.dtype_column in f), None)
    if table is None:
        unmapped.add(f"{op_name}: no such operation here", _where(file), len(f))
        return []
    if "window_size" in table.whole and "window_size" not in f:
        f = f.assign(window_size=0)
    numbers = f[[*table.whole, "latency"]].apply(pandas.to_numeric, errors="coerce")
    least = pandas.Series(table.whole)
    sound = (numbers[least.index] >= least).all(axis=1) & (numbers["latency"] > 0) & (numbers["latency"] < float("inf"))
    sound &= (numbers[least.index] % 1 == 0).all(axis=1) & (numbers[least.index] < 2**53).all(axis=1)
    if "step" in table.whole:
        # Prefill on top of a history is masked in a way that a row cannot tell; no table has it so far, nor beams.
        sound &= (numbers["beam_width"] == 1) & ((numbers["step"] == 0) | (op_name == "generation_attention"))
    _leave_out(f"{op_name}: sizes or time that are no case here", ~sound, file, unmapped)
    f = f.assign(**numbers[list(table.whole)].where(sound, 1).astype("int64"), latency=numbers["latency"])[sound]
    if f.empty:
        return []
    columns = pandas.DataFrame({**table.map(f), **_shared(f, table, file, hints)}, index=f.index)
    known = columns["dtype"].notna() & f["kernel_source"].notna()
    _leave_out(f"{op_name}: a type unknown here", ~known, file, unmapped)
    return _build(columns[known], file) if known.any() else []


def _leave_out(what: str, rows: pandas.Series[bool], file: Path, unmapped: Unmapped) -> None:
    if rows.any():
        unmapped.add(what, f"{_where(file)}, row {int(rows[rows].index[0]) + 1}", int(rows.sum()))


def _shared(f: pandas.DataFrame, table: Table, file: Path, hints: Hints) -> dict[str, Any]:
    """What all tables tell alike. The two oldest have neither framework nor device: then the folder names the chip."""
    from chipassay.results.catalogue import identify

    from ..devices.facts import slug

    system = next((part for part in file.parts if part in SYSTEMS), None)
    told = SYSTEMS[system] if system else hints.chip_id
    devices = f.get("device")
    chips: dict[Any, str] = {}
    for name in [] if devices is None else devices.dropna().unique():
        found = identify(name)
        chips[name] = found.id if found else told or slug(name)
    kernel = f["kernel_source"]
    libraries = f[table.library].str.lower() + "=" + f["version"] if {table.library, "version"} <= set(f) else None
    power_w = f["power"].where(f["power"] > 0) if "power" in f else None
    shared = {
        "device_name": devices,
        "chip_id": told if devices is None else devices.map(lambda name: chips.get(name, told)),
        "kernel": kernel,
        "libraries": libraries,
        "power_w": power_w,
        "time_median_s": f["latency"] * 1e-3,
    }
    if table.library == "framework":
        shared["backend"] = f["framework"].str.lower() if "framework" in f else None
    alone = "num_gpus" not in table.whole
    return {**shared, "node_count": 1 if alone else hints.node_count, "fabric": "single" if alone else hints.fabric}


def _build(columns: pandas.DataFrame, file: Path) -> list[Row]:
    """The rows of a frame whose columns are columns of rows, with what follows from them: rates, and which of several runs it was."""
    version = importlib.metadata.version(TOOL) if _where(file) != str(file) else None
    run = {
        **provenance(file, TOOL, version),
        "device_kind": "xpu" if "b60" in file.parts else "cuda",
        "time_statistic": "mean",
        "status": "ok",
    }
    time_s = columns["time_median_s"]
    if "size_bytes" in columns:
        algbw = columns["size_bytes"] / time_s
        columns = columns.assign(algbw_bytes_per_s=algbw, busbw_bytes_per_s=algbw * _bus_factors(columns))
    else:
        columns = columns.assign(
            rate_flops_per_s=columns["flops"] / time_s,
            bandwidth_bytes_per_s=columns["bytes"] / time_s,
            chip_count=1,
        )
    # Some tables hold a case several times: runs of their own, or only the last would count.
    again = columns.groupby([name for name in KEY_NAMES if name in columns], dropna=False, sort=False).cumcount()
    columns["run_id"] = run["run_id"] + again.map(lambda n: f"-{n + 1}" if n else "")
    if "window" in columns:
        columns["window"] = columns["window"].astype("Int64")
    names = [str(name) for name in columns]  # a list, for an index of pandas is slow to go through, and each row does
    lists = [_values(columns[name]) for name in names]
    return [Row(**{**run, **dict(zip(names, values, strict=True))}) for values in zip(*lists, strict=True)]


def _values(column: pandas.Series[Any]) -> list[Any]:
    """A column as Python values, None where there is none; equal texts are one object, of which a table has few."""
    import pandas

    if pandas.api.types.is_numeric_dtype(column):
        return column.astype(object).where(column.notna(), None).tolist()
    codes, texts = pandas.factorize(column)
    values = [*texts.tolist(), None]  # the code of a missing one is -1
    return [values[code] for code in codes]


def _bus_factors(columns: pandas.DataFrame) -> pandas.Series[float]:
    from chipassay.collectives.pattern import patterns

    known = patterns()
    pairs = columns[["op", "group_size"]].apply(tuple, axis=1)
    return pairs.map({pair: known[pair[0]].bus_factor(int(pair[1])) for pair in pairs.unique()})


IMPORTER = Importer("aiconfigurator", "tables of aiconfigurator-core (parquet, or a chip's name; needs its extra)", recognises, read)
