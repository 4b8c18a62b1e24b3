"""A sweep told in a TOML file: lists of what to predict; their product is the sweep.

    model = ["llama3-8b", "llama3-70b"]     # presets, or paths of a .toml or a config.json, seen from this file
    cluster = ["64xh100-sxm-80gb", "64xh800-sxm-80gb@hdr200x8"]    # as everywhere, or paths of cluster .tomls
    batch = [512, 1024]                     # this and the rest may be left out; a single value needs no list
    seq_len = [4096, 8192]                  # in the place of the model's own
    dtype = ["bf16", "fp8"]
    plan = ["best", "tp=8,pp=2,dp=4,zero=1"]
    link = ["", "h800-sxm-80gb.scaleup=900GB/s"]    # what if; "" changes nothing
    price = ["", "h100-sxm-80gb=2,h800-sxm-80gb=1.5"]    # USD per chip and hour; "" is the cluster file's, or quotes
    tokens = [1e12, 15e12]                  # days, money and energy for so many

Products that differ in more than one list at once are tables ``[[sweep]]`` of these fields; what stands above them holds for all of them.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from chipassay.results.errors import FileError, InputError, UnknownName
from chipassay.results.prices import Price, given_price, price_of, read_overrides
from chipassay.scaling.cluster import Cluster, parse_cluster
from chipassay.scaling.models import Transformer, load_model
from chipassay.scaling.plan_text import parse_plan
from chipassay.scaling.stand_ins import TRAINING_DTYPES
from chipassay.scaling.what_if import Change, apply, check_used, parse_changes

from ..prediction.numbers import MOST
from .case import BEST, Case, Offer, key_of, model_version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_ROWS = 1_000_000
"""A sweep of more was mistyped: at a tenth of a second each that is a day of a core."""


@dataclass(frozen=True)
class Axis:
    """What the list of a field may hold."""

    kind: type[str] | type[int] | type[float]
    example: str
    default: Any = None
    """Of a sweep that leaves the field out."""


AXES: Mapping[str, Axis] = {
    "model": Axis(str, '["llama3-8b"]'),
    "cluster": Axis(str, '["64xh100-sxm-80gb"]'),
    "batch": Axis(int, "[512, 1024]"),
    "seq_len": Axis(int, "[4096, 8192]"),
    "dtype": Axis(str, '["bf16", "fp8"]'),
    "plan": Axis(str, '["best", "tp=8,dp=8"]', BEST),
    "link": Axis(str, '["", "h800-sxm-80gb.scaleup=900GB/s"]', ""),
    "price": Axis(str, '["", "h100-sxm-80gb=2.5"]', ""),
    "tokens": Axis(float, "[1e12]"),
}
NEEDED = ("model", "cluster")
PROFILE = re.compile(r"(?P<count>\s*\d+x)(?P<path>[^@+]+\.json)")
Found = TypeVar("Found")


def read_sweep(path: Path) -> list[Case]:
    """The cases of a sweep, each once, in the order of the file: the last list changes fastest.

    Raises FileError for a file that cannot be read, a field that there is not, and every name, path and value in it that cannot be: all
    are looked at before anything is predicted.
    """
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of a sweep's .toml") from error
    except UnicodeDecodeError as error:
        raise FileError(path, "not text in UTF-8", mend="give the path of a sweep's .toml") from error
    except tomllib.TOMLDecodeError as error:
        raise FileError(path, f"not TOML ({error})") from error
    tables = data.pop("sweep", [{}])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise FileError(path, "sweep is no list of tables", mend="write each product under [[sweep]]")
    products = [{name: _values(path, name, value) for name, value in {**data, **table}.items()} for table in tables]
    for product in products:
        for name in NEEDED:
            if name not in product:
                raise FileError(path, f"{name} is missing", mend=f"add it, such as {name} = {AXES[name].example}")
    rows = sum(math.prod(map(len, product.values())) for product in products)
    if rows > MOST_ROWS:
        raise FileError(path, f"the product of its lists is {rows} rows", mend=f"keep it to {MOST_ROWS}, in several files if need be")
    reader = _Reader(path)
    try:
        return list(_merged(case for product in products for case in reader.cases(product)))
    except FileError:
        raise
    except InputError as error:
        raise FileError(path, str(error).removeprefix("--")) from error


def _values(path: Path, name: str, value: Any) -> list[Any]:
    """The list of a field, checked. Raises FileError for a field that there is not, or a value that it cannot hold."""
    if name not in AXES:
        raise FileError(path, str(UnknownName("field", name, AXES)))
    axis = AXES[name]
    values = value if isinstance(value, list) else [value]
    mend = f"write for example {name} = {axis.example}"
    if not values:
        raise FileError(path, f"{name} is an empty list", mend="leave the field out, or " + mend)
    for one in values:
        if axis.kind is str:
            if not isinstance(one, str) or (not one.strip() and axis.default != ""):
                raise FileError(path, f"{name} holds {one!r}, which is no text", mend=mend)
        elif isinstance(one, bool) or not isinstance(one, (int, float)) or not math.isfinite(one) or one <= 0:
            raise FileError(path, f"{name} holds {one!r}, which is no number above 0", mend=mend)
        elif axis.kind is int and not isinstance(one, int):
            raise FileError(path, f"{name} holds {one!r}, which is no whole number", mend=mend)
        elif axis.kind is int and one > MOST:
            raise FileError(path, f"{name} holds {one!r}, and may hold at most {MOST:,}", mend=mend)
    return [float(one) for one in values] if axis.kind is float else values


@dataclass
class _Reader:
    """Reads each file and name once."""

    path: Path
    read: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def once(self, make: Callable[..., Found], *given: Any) -> Found:
        key = (make, *given)
        if key not in self.read:
            self.read[key] = make(*given)
        return self.read[key]

    def cases(self, product: Mapping[str, list[Any]]) -> Iterator[Case]:
        """The product of these lists."""
        lists = {name: product.get(name, [axis.default]) for name, axis in AXES.items()}
        prices, tokens = lists.pop("price"), lists.pop("tokens")
        clusters = [self.once(self.cluster, name) for name in lists["cluster"]]
        for link in lists["link"]:
            check_used(self.once(_changes, link), (group.profile.chip_id for cluster in clusters for group in cluster.groups))
        chips = tuple(dict.fromkeys(group.profile.chip_id for cluster in clusters for group in cluster.groups))
        overrides = {text: read_overrides([part for part in text.split(",") if part.strip()], chips) for text in prices}
        for model_name, cluster_name, batch, seq_len, dtype, plan, link in itertools.product(*lists.values()):
            if dtype is not None and dtype not in TRAINING_DTYPES:
                raise UnknownName("dtype", dtype, TRAINING_DTYPES)
            self.once(_check_plan, plan, dtype)
            model, model_key = self.once(self.model, model_name, seq_len)
            cluster, cluster_key, linked = self.once(self.changed, cluster_name, link)
            offers = []
            for price_text, count in itertools.product(prices, tokens):
                each, asked = _prices(cluster, overrides[price_text])
                key = key_of(model_version(), model_key, cluster_key, batch, dtype, plan, each, count)
                offers.append(Offer(key, each, asked, count))
            yield Case(model_name, model, cluster_name, cluster, linked, batch, dtype, plan, tuple(offers), model_version())

    def model(self, name: str, seq_len: int | None) -> tuple[Transformer, str]:
        """The model, and what tells it from others."""
        found = self.once(load_model, self.placed(name) if name.endswith((".toml", ".json")) else name)
        found = found if seq_len is None else replace(found, seq_len=seq_len)
        return found, key_of(found)

    def cluster(self, name: str) -> Cluster:
        """The cluster, its files seen from the sweep's."""
        if name.endswith(".toml"):
            return parse_cluster(self.placed(name))
        return parse_cluster(PROFILE.sub(lambda match: match["count"] + self.placed(match["path"]), name))

    def changed(self, name: str, link: str) -> tuple[Cluster, str, str]:
        """The cluster with those of a link's changes that are of its chips, what tells it from others, and those changes as text."""
        cluster = self.once(self.cluster, name)
        chips = {group.profile.chip_id.lower() for group in cluster.groups}
        parts = [part.strip() for part in link.split(",") if part.strip()]
        parts = [part for part in parts if _changes(part)[0].chip_id in chips]
        cluster = apply(_changes(",".join(parts)), cluster)
        return cluster, key_of(cluster), ",".join(parts)

    def placed(self, name: str) -> str:
        return str(self.path.parent / name)


def _changes(link: str) -> tuple[Change, ...]:
    return parse_changes([link])


def _check_plan(text: str, dtype: str | None) -> None:
    """Raise InputError for the text of a plan that cannot be read, or that names a dtype beside the sweep's."""
    if text != BEST and parse_plan(text, 1).dtype is not None and dtype is not None:
        raise InputError(f"plan {text!r} names a dtype, and so does the field dtype; name it in one of them")


def _prices(cluster: Cluster, overrides: Mapping[str, Price]) -> tuple[dict[str, Price | None], str]:
    """What an hour of each chip costs, and the overrides among that as text."""
    prices: dict[str, Price | None] = {}
    for group in cluster.groups:
        chip_id = group.profile.chip_id
        own = None if group.usd_per_chip_hour is None else given_price(chip_id, group.usd_per_chip_hour)
        prices.setdefault(chip_id, overrides.get(chip_id) or own or price_of(chip_id, {}))
    return prices, ",".join(f"{chip_id}={overrides[chip_id].usd:g}" for chip_id in prices if chip_id in overrides)


def _merged(cases: Iterator[Case]) -> Iterator[Case]:
    """The cases without what stands there twice, as a link does that changes nothing of a cluster."""
    seen: set[str] = set()
    for case in cases:
        offers = tuple({offer.key: offer for offer in case.offers if offer.key not in seen}.values())
        seen.update(offer.key for offer in offers)
        if offers:
            yield replace(case, offers=offers)
