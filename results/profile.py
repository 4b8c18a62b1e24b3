"""The profile: one chip as the scaling model sees it, every number with its birth certificate. Loads without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import FileError
from .evidence import LEVELS, Evidence, Level
from .link import Link, Load, Overlap, Segment

if TYPE_CHECKING:
    from .shape_models.attention import AttentionModel
    from .shape_models.product import ProductModel

PROFILE_VERSION = 2
"""2: models by shape (``products``, ``attentions``), memory-bound operations one by one, launches, host links and power."""
MADE_AGAIN = "make it again with `chipassay profile FILE.csv -o PROFILE.json`"


@dataclass(frozen=True)
class Quantity:
    """One number with its evidence. The unit is in the name of the field that holds it."""

    value: float
    evidence: Evidence


@dataclass(frozen=True)
class Curve:
    """Time of one operation as work grows: ``time_s = overhead_s + work / rate``.

    Work is FLOPs for compute and bytes for memory operations; ``rate`` is what large work approaches, per second.
    ``spread`` is the standard deviation of the log residuals (None: not enough points), ``points`` how many were fitted,
    ``work_min`` and ``work_max`` the range they covered: outside it the curve extrapolates.
    """

    overhead_s: float
    rate: float
    evidence: Evidence
    points: int = 0
    spread: float | None = None
    work_min: float | None = None
    work_max: float | None = None

    def time_s(self, work: float) -> float:
        """Seconds for ``work``.

        >>> Curve(overhead_s=1e-5, rate=1e12, evidence=Evidence("assumed", "example")).time_s(1e9)
        0.00101
        """
        return self.overhead_s + work / self.rate


@dataclass(frozen=True)
class Profile:
    """What one chip really does. A cell that is absent is unknown."""

    chip_id: str
    name: str
    matmul: Mapping[str, Curve] = field(default_factory=dict)
    """dtype (``fp32``, ``tf32``, ``bf16``, ...) -> time by FLOPs (2 m n k)."""
    attention: Mapping[str, Curve] = field(default_factory=dict)
    """dtype -> time of the forward pass by FLOPs (4 b h s_q s_kv d, halved if causal)."""
    memory: Curve | None = None
    """Time by bytes read plus written."""
    products: Mapping[str, ProductModel] = field(default_factory=dict)
    """dtype -> time of a matrix product by its shape; ``matmul`` is the one line through the same rows."""
    attentions: Mapping[str, AttentionModel] = field(default_factory=dict)
    """dtype -> time of attention by its shape."""
    memory_ops: Mapping[str, Curve] = field(default_factory=dict)
    """Operation, and its direction where it has two (``rms_norm backward``) -> time by the bytes that it must move."""
    launch_s: Mapping[str, Quantity] = field(default_factory=dict)
    """``stream``, ``graph`` -> seconds from one empty kernel to the next."""
    host_link_bytes_per_s: Mapping[str, Quantity] = field(default_factory=dict)
    """``host_to_device pinned``, ... -> bandwidth of large copies."""
    sustained_power_w: Mapping[str, Quantity] = field(default_factory=dict)
    """Operation and dtype -> what the board draws while it runs back to back."""
    links: tuple[Link, ...] = ()
    loads: tuple[Load, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    peak_flops_per_s: Mapping[str, Quantity] = field(default_factory=dict)
    """dtype -> dense datasheet peak."""
    peak_bandwidth_bytes_per_s: Quantity | None = None
    memory_bytes: Quantity | None = None
    power_w: Quantity | None = None
    version: int = PROFILE_VERSION

    def to_json(self) -> str:
        """The profile as diffable JSON: sorted keys, one number a line."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON."""
        Path(path).write_text(self.to_json(), encoding="utf-8")


def _evidence(data: Mapping[str, Any]) -> Evidence:
    if data["level"] not in LEVELS:
        raise ValueError(f"evidence level {data['level']!r} is not one of {', '.join(LEVELS)}")
    return Evidence(**data)


def _with_evidence(kind: type, data: Mapping[str, Any] | None) -> Any:
    return None if data is None else _made(kind, {**data, "evidence": _evidence(data["evidence"])})


def _made(kind: type, values: Mapping[str, Any]) -> Any:
    """The record of these values. Raises ValueError where a number is none."""
    for one in fields(kind):
        value = values.get(one.name)
        if (
            str(one.type).startswith(("float", "int"))
            and value is not None
            and (isinstance(value, bool) or not isinstance(value, (int, float)))
        ):
            raise ValueError(f"{one.name} is {value!r} and no number")
    return kind(**values)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is in there, which no figure can be")


def _quantities(data: Mapping[str, Any]) -> dict[str, Quantity]:
    return {name: _with_evidence(Quantity, quantity) for name, quantity in data.items()}


def _link(data: Mapping[str, Any]) -> Link:
    segments = tuple(_made(Segment, segment) for segment in data.get("segments", ()))
    link: Link = _with_evidence(Link, {**data, "segments": segments})
    return link


def _product(data: Mapping[str, Any]) -> ProductModel:
    from .shape_models.correction import Correction
    from .shape_models.product import ProductModel, Tile  # NumPy, which a program that reads no profile does without

    found = data.get("correction")
    told = {
        "tiles": tuple(_made(Tile, tile) for tile in data.get("tiles", ())),
        "splits": tuple(data.get("splits", ())),
        "correction": None if found is None else Correction(**{name: _frozen(values) for name, values in found.items()}),
    }
    model: ProductModel = _with_evidence(ProductModel, {**data, **told, **_fitted(data)})
    return model


def _frozen(values: Any) -> Any:
    return tuple(_frozen(value) for value in values) if isinstance(values, list) else values


def _attention_model(data: Mapping[str, Any]) -> AttentionModel:
    from .shape_models.attention import AttentionModel

    model: AttentionModel = _with_evidence(AttentionModel, {**data, **_fitted(data)})
    return model


def _fitted(data: Mapping[str, Any]) -> dict[str, Any]:
    from .shape_models.product import HeldOut

    held_out = data.get("held_out")
    ranges = {name: (float(low), float(high)) for name, (low, high) in data.get("fitted_range", {}).items()}
    return {"held_out": None if held_out is None else _made(HeldOut, held_out), "fitted_range": ranges}


def load_profile(path: str | Path) -> Profile:
    """Read a profile that ``Profile.save`` wrote.

    Raises FileError when the file is missing, is not JSON, or is not a profile of this version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of a profile .json") from error
    except json.JSONDecodeError as error:
        raise FileError(path, f"not JSON ({error.msg})", line=error.lineno, mend=MADE_AGAIN) from error
    except UnicodeDecodeError as error:
        raise FileError(path, "not text in UTF-8, so no profile", mend=MADE_AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise FileError(path, f"not a profile: {error}", mend=MADE_AGAIN) from error
    if not isinstance(data, dict) or not {"version", "chip_id"} <= data.keys():
        raise FileError(path, "JSON, but not a profile", mend="make one with `chipassay profile FILE.csv -o PROFILE.json`")
    version = data["version"]
    if version != PROFILE_VERSION:
        raise FileError(
            path,
            f"profile version {version!r} where {PROFILE_VERSION} is read",
            mend=MADE_AGAIN,
        )
    try:
        return Profile(
            chip_id=data["chip_id"],
            name=data["name"],
            matmul={dtype: _with_evidence(Curve, curve) for dtype, curve in data["matmul"].items()},
            attention={dtype: _with_evidence(Curve, curve) for dtype, curve in data["attention"].items()},
            memory=_with_evidence(Curve, data["memory"]),
            products={dtype: _product(model) for dtype, model in data["products"].items()},
            attentions={dtype: _attention_model(model) for dtype, model in data["attentions"].items()},
            memory_ops={op: _with_evidence(Curve, curve) for op, curve in data["memory_ops"].items()},
            launch_s=_quantities(data["launch_s"]),
            host_link_bytes_per_s=_quantities(data["host_link_bytes_per_s"]),
            sustained_power_w=_quantities(data["sustained_power_w"]),
            links=tuple(_link(link) for link in data["links"]),
            loads=tuple(_with_evidence(Load, load) for load in data.get("loads", ())),
            overlaps=tuple(_with_evidence(Overlap, overlap) for overlap in data.get("overlaps", ())),
            peak_flops_per_s=_quantities(data["peak_flops_per_s"]),
            peak_bandwidth_bytes_per_s=_with_evidence(Quantity, data["peak_bandwidth_bytes_per_s"]),
            memory_bytes=_with_evidence(Quantity, data["memory_bytes"]),
            power_w=_with_evidence(Quantity, data["power_w"]),
        )
    except KeyError as error:
        raise FileError(path, f"not a profile: it has no {error}", mend=MADE_AGAIN) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise FileError(path, f"not a profile: {error}", mend=MADE_AGAIN) from error


__all__ = [
    "LEVELS",
    "PROFILE_VERSION",
    "Curve",
    "Evidence",
    "Level",
    "Link",
    "Load",
    "Overlap",
    "Profile",
    "Quantity",
    "Segment",
    "load_profile",
]
