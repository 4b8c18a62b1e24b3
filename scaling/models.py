"""The models: presets by name, a TOML of a Transformer's fields, or a Hugging Face ``config.json``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError, InputError, UnknownName

from .model_parts import Block, Experts, Latent
from .transformer import BACKWARD_OVER_FORWARD, Transformer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = Path(__file__).with_name("presets")
TABLES: Mapping[str, type[Experts] | type[Latent]] = {"experts": Experts, "latent": Latent}


@lru_cache(maxsize=1)
def preset_names() -> tuple[str, ...]:
    """The names of the shipped models."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def load_model(name_or_path: str) -> Transformer:
    """A shipped model by name, or one from a ``.toml`` of these fields or a Hugging Face ``config.json``."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return _from_toml(path, _read(path))
    if path.suffix == ".json" or (path.is_dir() and (path / "config.json").exists()):
        from .hugging_face import from_hugging_face

        path = path if path.suffix == ".json" else path / "config.json"
        return from_hugging_face(path, _read(path))
    if name_or_path.lower() not in preset_names():
        raise UnknownName("model", name_or_path, preset_names())
    return _preset(name_or_path.lower())


@lru_cache(maxsize=256)
def _preset(name: str) -> Transformer:
    path = PRESETS / f"{name}.toml"
    return _from_toml(path, _read(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give a model name, a .toml or a config.json") from error
    except UnicodeDecodeError as error:
        raise FileError(path, "not text in UTF-8", mend="give a model name, a .toml or a config.json") from error


def _from_toml(path: Path, text: str) -> Transformer:
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileError(path, f"not TOML ({error})") from error
    data.setdefault("name", path.stem)
    try:
        for table, kind in TABLES.items():
            if table in data:
                data[table] = _record(path, kind, data[table], f" in [{table}]")
        model: Transformer = _record(path, Transformer, _with_defaults(data))
    except FileError:
        raise
    except InputError as error:
        raise FileError(path, str(error)) from error
    return model


def _with_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that follow from others: as many key/value heads as heads, the head's width, the MLP's where no layer is dense."""
    found, experts, latent = dict(data), data.get("experts"), data.get("latent")
    hidden, heads = data.get("hidden"), data.get("heads")
    if isinstance(heads, int):
        found.setdefault("kv_heads", heads)
    if latent is not None:
        found.setdefault("head_dim", latent.nope_dim + latent.rope_dim)
    elif isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        if "head_dim" not in data and hidden % heads:
            raise InputError(f"hidden {hidden} does not divide into {heads} heads; add head_dim, or make it divide")
        found.setdefault("head_dim", hidden // heads)
    if experts is not None and experts.first_dense == 0 and experts.every == 1:
        found.setdefault("ffn_hidden", experts.ffn_hidden)
    return found


def _record(path: Path, kind: type[Any], values: Any, where: str = "") -> Any:
    """The record of these values. Raises FileError for a field that there is not, or that is not given."""
    if not isinstance(values, dict):
        raise FileError(path, f"{kind.__name__.lower()} is {values!r}", mend=f"give a table [{kind.__name__.lower()}]")
    known = [field.name for field in fields(kind)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
            mend = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(sorted(known))}"
            raise FileError(path, f"unknown field {key!r}{where}", mend=mend)
    missing = [field.name for field in fields(kind) if field.default is MISSING and field.name not in values]
    if missing:
        raise FileError(path, f"no {', '.join(missing)}{where}", mend="add the field" if len(missing) == 1 else "add the fields")
    return kind(**values)


__all__ = ["BACKWARD_OVER_FORWARD", "Block", "Experts", "Latent", "Transformer", "load_model", "preset_names"]
