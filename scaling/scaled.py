"""A group of chips with one of its inputs times a factor: what sensitivity asks about, and what a better chip would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from chipassay.results.catalogue import load_chips
from chipassay.results.link import Link, Segment
from chipassay.results.profile import Curve, Quantity
from chipassay.results.shipped import find_profile

from .cluster import Group

if TYPE_CHECKING:
    from chipassay.results.shape_models.attention import AttentionModel
    from chipassay.results.shape_models.product import ProductModel

_Model = TypeVar("_Model", "ProductModel", "AttentionModel")


def with_own_links(group: Group) -> Group:
    """The group with the links that ``ready`` would take from the catalogue in its profile, so that they can be changed."""
    profile = group.profile
    if profile.links or profile.chip_id not in load_chips():
        return group
    return replace(group, profile=replace(profile, links=find_profile(profile.chip_id).links))


# Each of these returns the group with one input times a factor. Products and attention are rates; what their kernels spend on starting a
# tile is arithmetic, too, what they spend on being launched is not, and their bytes are the memory's.


def _profile(group: Group, **changed: Any) -> Group:
    return replace(group, profile=replace(group.profile, **changed))


def _tiles(model: _Model, factor: float) -> _Model:
    """What products and attention have in common: the rate, and what a tile costs at it."""
    return replace(
        model,
        rate_flops_per_s=model.rate_flops_per_s * factor,
        tile_start_s=model.tile_start_s / factor,
        split_s=model.split_s / factor,
        slowdown_after_s=model.slowdown_after_s / factor,
    )


def _faster_products(group: Group, factor: float) -> Group:
    def product(model: ProductModel) -> ProductModel:
        return replace(
            _tiles(model, factor),
            quantise_s=model.quantise_s / factor,
            quantise_s_per_byte=model.quantise_s_per_byte / factor,
            quantise_s_per_row=model.quantise_s_per_row / factor,
        )

    p = group.profile
    return _profile(
        group,
        products={dtype: product(model) for dtype, model in p.products.items()},
        matmul=_rates(p.matmul, factor),
        peak_flops_per_s=_quantities(p.peak_flops_per_s, factor),
    )


def _faster_attention(group: Group, factor: float) -> Group:
    p = group.profile
    return _profile(
        group,
        attentions={dtype: _tiles(model, factor) for dtype, model in p.attentions.items()},
        attention=_rates(p.attention, factor),
    )


def _faster_memory(group: Group, factor: float) -> Group:
    def bandwidth(models: Mapping[str, Any]) -> dict[str, Any]:
        return {name: replace(model, bandwidth_bytes_per_s=model.bandwidth_bytes_per_s * factor) for name, model in models.items()}

    p = group.profile
    return _profile(
        group,
        memory=None if p.memory is None else replace(p.memory, rate=p.memory.rate * factor),
        memory_ops=_rates(p.memory_ops, factor),
        products=bandwidth(p.products),
        attentions=bandwidth(p.attentions),
        peak_bandwidth_bytes_per_s=_quantity(p.peak_bandwidth_bytes_per_s, factor),
    )


def _longer_launches(group: Group, factor: float) -> Group:
    def launches(models: Mapping[str, Any]) -> dict[str, Any]:
        return {name: replace(model, launch_s=model.launch_s * factor) for name, model in models.items()}

    def overheads(curves: Mapping[str, Curve]) -> dict[str, Curve]:
        return {name: replace(curve, overhead_s=curve.overhead_s * factor) for name, curve in curves.items()}

    p = group.profile
    return _profile(
        group,
        matmul=overheads(p.matmul),
        attention=overheads(p.attention),
        memory=None if p.memory is None else replace(p.memory, overhead_s=p.memory.overhead_s * factor),
        memory_ops=overheads(p.memory_ops),
        products=launches(p.products),
        attentions=launches(p.attentions),
        launch_s=_quantities(p.launch_s, factor),
    )


def _link(link: Link, *, bandwidth: float = 1.0, latency: float = 1.0) -> Link:
    """The link with its lines, and their errors, scaled."""

    def segment(line: Segment) -> Segment:
        return replace(
            line,
            latency_s=line.latency_s * latency,
            busbw_bytes_per_s=line.busbw_bytes_per_s * bandwidth,
            latency_error_s=None if line.latency_error_s is None else line.latency_error_s * latency,
            s_per_byte_error=None if line.s_per_byte_error is None else line.s_per_byte_error / bandwidth,
        )

    return replace(
        link,
        latency_s=link.latency_s * latency,
        busbw_bytes_per_s=link.busbw_bytes_per_s * bandwidth,
        segments=tuple(segment(line) for line in link.segments),
    )


def _wider_links(group: Group, factor: float) -> Group:
    return _profile(group, links=tuple(_link(link, bandwidth=factor) for link in group.profile.links))


def _slower_links(group: Group, factor: float) -> Group:
    return _profile(group, links=tuple(_link(link, latency=factor) for link in group.profile.links))


def _wider_network(group: Group, factor: float) -> Group:
    wider = group.fabric.nic_bytes_per_s_one_way * factor
    return replace(group, fabric=replace(group.fabric, nic_bytes_per_s_one_way=wider))


def _slower_network(group: Group, factor: float) -> Group:
    return replace(group, fabric=replace(group.fabric, latency_s=group.fabric.latency_s * factor))


def _wider_host_link(group: Group, factor: float) -> Group:
    return _profile(group, host_link_bytes_per_s=_quantities(group.profile.host_link_bytes_per_s, factor))


def _more_power(group: Group, factor: float) -> Group:
    return _profile(group, power_w=_quantity(group.profile.power_w, factor))


def _larger_memory(group: Group, factor: float) -> Group:
    return _profile(group, memory_bytes=_quantity(group.profile.memory_bytes, factor))


def _rates(curves: Mapping[str, Curve], factor: float) -> dict[str, Curve]:
    return {name: replace(curve, rate=curve.rate * factor) for name, curve in curves.items()}


def _quantities(quantities: Mapping[str, Quantity], factor: float) -> dict[str, Quantity]:
    return {name: replace(found, value=found.value * factor) for name, found in quantities.items()}


def _quantity(quantity: Quantity | None, factor: float) -> Quantity | None:
    return None if quantity is None else replace(quantity, value=quantity.value * factor)


Better = Callable[[Group, float], Group]

INPUTS: Mapping[str, tuple[str, Better]] = {
    "matrix products": ("more", _faster_products),
    "attention": ("more", _faster_attention),
    "memory bandwidth": ("more", _faster_memory),
    "kernel launches": ("less", _longer_launches),
    "bandwidth in the node": ("more", _wider_links),
    "latency in the node": ("less", _slower_links),
    "network bandwidth": ("more", _wider_network),
    "network latency": ("less", _slower_network),
    "bandwidth to the host": ("more", _wider_host_link),
    "board power": ("more", _more_power),
    "memory size": ("more", _larger_memory),
}
"""Input -> whether more or less of it is better, and the group with it times a factor."""
