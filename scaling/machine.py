"""One chip made ready for the model: its profile with a dtype chosen and each gap filled by a stated stand-in, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chipassay.results.catalogue import load_chips
from chipassay.results.links import link_for
from chipassay.results.profile import Curve, Evidence, Link, Profile, Quantity

from .constants import FULL_CLOCK_W_PER_TFLOPS, Constant
from .errors import MissingCell
from .stand_ins import (
    ATTENTION_BACKWARD,
    ELEMENT_BYTES,
    TRAINING_DTYPES,
    WIDER,
    attention_curve,
    attention_model,
    host_link,
    matmul_curve,
    memory_curve,
    product_model,
    profile_dtype,
    training_dtype,
)
from .sustained import full_clock_power

if TYPE_CHECKING:
    from chipassay.results.shape_models.attention import AttentionModel
    from chipassay.results.shape_models.product import ProductModel

LARGE = 8192
"""Side of the product at which power is reckoned."""
SHARED_MEMORY_TRANSPORTS = ("gloo", "shared-memory", "shm", "mpi", "multiprocessing")
"""Transports whose measured group was ranks of one CPU machine: they say nothing of a link between chips."""


@dataclass(frozen=True)
class Input:
    """One number the prediction used, in words, with its evidence."""

    what: str
    value: str
    evidence: Evidence


@dataclass(frozen=True, eq=False)
class Machine:
    """One chip with every number that the model needs. Compared by identity, so that costs can be cached by machine."""

    chip_id: str
    name: str
    dtype: str
    products: ProductModel
    """Matrix products of activations, the logits and, but for fp8, of the linear layers."""
    linear_products: ProductModel
    """Matrix products of the linear layers."""
    vector_products: ProductModel
    """Matrix products without tensor cores: what rows of no multiple of 8 elements are left with."""
    attentions: AttentionModel
    memory_ops: Mapping[str, Curve]
    later_than_ampere: bool
    host_link: Quantity | None
    """Bytes per second between the chip's memory and its host's, one way."""
    sustained: float
    """Share of the rate of products that holds in a long run, whose power is capped; profiles hold short ones."""
    full_clock: Constant
    """Watts that full clocks would take for each TFLOP/s: what ``sustained`` follows from."""
    power_w: float | None
    rated_w: float | None
    """The board's power, and what the catalogue says of the chip: less where it is capped."""
    attention_flops_per_s: float
    """What long attention reaches, forward and backward."""
    matmul: Curve
    attention: Curve
    memory: Curve
    memory_bytes: float
    peak_flops_per_s: float | None
    links: Mapping[str, tuple[Link, ...]]
    """Collective -> links inside the node, by group size."""
    inputs: tuple[Input, ...]

    @property
    def element_bytes(self) -> int:
        return ELEMENT_BYTES[self.dtype]

    def attention_share(self, kernel_share: float) -> float:
        """Share of the profile's rate that an attention kernel of so much of it keeps in a long run."""
        return kernel_share * sustained_share(self.power_w, self.attention_flops_per_s, self.rated_w, self.full_clock.value)

    def memory_s(self, size_bytes: Any, op: str = "") -> Any:
        """Seconds of one memory-bound kernel over so many bytes (a number or an array), by its own curve where the profile has one."""
        return self.memory_ops.get(op, self.memory).time_s(size_bytes)

    def link(self, pattern: str, group_size: int) -> Link | None:
        """The link of that group size, or one derived from those of other sizes; an all-reduce stands in for what is not known."""
        known = pattern if self.links.get(pattern) else "all_reduce"
        return link_for(self.links.get(known, ()), known, max(2, group_size))


LEAST_DYNAMIC_SHARE = 0.05
"""Of the rated power, that a cap leaves to the cores at least: keeps the formula finite below any cap that a board takes (assumed)."""
STATIC_SHARE = 0.2
"""Share of a board's rated power that memory and leakage take whatever the clocks (assumed; matters where a board is capped)."""


def _later_than_ampere(chip_id: str) -> bool:
    """NVIDIA's chips of compute capability 9 and above."""
    chip = load_chips().get(chip_id)
    number = "" if chip is None else str(chip.compute_capability or "").split(".")[0]
    return number.isdigit() and int(number) >= 9


def sustained_share(
    power_w: float | None, rate_flops_per_s: float, rated_w: float | None = None, full_clock_w_per_tflops: float | None = None
) -> float:
    """Share of a short run's rate that tensor cores keep in a long one within the board's power.

    Dynamic power is f C V^2, and the voltage falls about as the clock does, so the clock that a power allows goes with its cube root
    (Mudge, "Power: a first-class architectural design constraint", IEEE Computer 34(4), 2001). Full clocks would take
    ``full_clock_w_per_tflops`` (None: FULL_CLOCK_W_PER_TFLOPS) of the board's power for each TFLOP/s that the kernel reaches. ``rated_w``:
    the board's power before it was capped to ``power_w``; memory and leakage, STATIC_SHARE of it, take theirs first. A board of more power
    than its chip's others is a larger one, not a capped one.

    One H200 measured here (results/h200-sxm-141gb/second): products of 777 to 820 TFLOP/s kept 0.83 to 0.86 in eight seconds at 690 W,
    where this gives 0.79; attention of 490 to 580 TFLOP/s 0.88 to 0.89 (0.89 to 0.93). Published training on H100 and H200 is nearer to the
    constant: with one that gives the 0.84 of that card, 17 of 20 sources on Hopper chips are predicted worse, by 3 %.

    >>> round(sustained_share(700.0, 776e12), 2), sustained_share(300.0, 103e12), sustained_share(None, 1e15)
    (0.8, 1.0, 1.0)
    """
    if power_w is None:
        return 1.0
    rated = power_w if rated_w is None else max(rated_w, power_w)
    left_w = max(LEAST_DYNAMIC_SHARE * rated, power_w - STATIC_SHARE * rated) / (1 - STATIC_SHARE)
    per_tflops = FULL_CLOCK_W_PER_TFLOPS.value if full_clock_w_per_tflops is None else full_clock_w_per_tflops
    return min(1.0, (left_w / (per_tflops * rate_flops_per_s / 1e12)) ** (1 / 3))


def _links(profile: Profile) -> Mapping[str, tuple[Link, ...]]:
    links: dict[str, list[Link]] = {}
    for link in profile.links:
        if link.transport.lower() not in SHARED_MEMORY_TRANSPORTS and link.placement == "inside" and link.busbw_bytes_per_s > 0:
            links.setdefault(link.pattern, []).append(link)
    return MappingProxyType({pattern: tuple(found) for pattern, found in links.items()})


def _large_rate(products: ProductModel) -> float:
    return 2.0 * LARGE**3 / float(products.time_s(LARGE, LARGE, LARGE))


def _products_inputs(dtype: str, linear: ProductModel, wide: str, products: ProductModel) -> tuple[Input, ...]:
    """One line per dtype of products."""
    kinds = {dtype: linear, wide: products}
    return tuple(
        Input(f"{name} products", f"{_large_rate(model) / 1e12:.4g} TFLOP/s at {LARGE} x {LARGE} x {LARGE}, by shape", model.evidence)
        for name, model in kinds.items()
    )


def _attention_input(attentions: AttentionModel) -> Input:
    heads, length, size = 32, 4096, 128
    rate = 2.0 * heads * length**2 * size / float(attentions.time_s(1, heads, length, length, size))
    value = f"{rate / 1e12:.4g} TFLOP/s forward at {heads} heads of {size}, {length} tokens, causal, by shape"
    return Input("attention", value, attentions.evidence)


def _attention_rate(attentions: AttentionModel) -> float:
    """FLOP/s of a long causal call, forward and backward."""
    heads, length, size = 32, 8192, 128
    forward_s = float(attentions.time_s(1, heads, length, length, size))
    backward_s = float(attentions.time_s(1, heads, length, length, size, direction="backward"))
    return 2.0 * heads * length**2 * size * (1 + ATTENTION_BACKWARD) / (forward_s + backward_s)


def _sustained_input(profile: Profile, share: float, full_clock: Constant) -> Input:
    if profile.power_w is None:
        return Input("clocks in a long run", "as in short ones", Evidence("assumed", "the board's power is unknown"))
    value = f"{share:.3f} of short runs' rate of products ({profile.power_w.value:.0f} W)"
    return Input("clocks in a long run", value, full_clock.evidence)


def prepare(profile: Profile, dtype: str | None = None, memory_bytes: float | None = None) -> Machine:
    """The profile as the model needs it. MissingCell names what is missing and cannot be stood in for."""
    chosen = dtype or training_dtype(profile)
    if chosen not in TRAINING_DTYPES:
        raise MissingCell(f"training in {chosen!r} is not modelled; choose one of {', '.join(TRAINING_DTYPES)}")
    memory = memory_curve(profile)
    matmul = matmul_curve(profile, chosen)
    wide = WIDER.get(chosen, chosen)
    wide_matmul = matmul if wide == chosen else matmul_curve(profile, wide)
    attention = attention_curve(profile, wide, wide_matmul)
    products = product_model(profile, wide, wide_matmul, memory)
    capacity = profile.memory_bytes
    if memory_bytes is not None:
        capacity = Quantity(memory_bytes, Evidence("assumed", "given by the caller"))
    if capacity is None:
        raise MissingCell(
            f"profile {profile.chip_id}: its memory size is unknown, so what fits cannot be told; add memory_bytes to the profile"
        )
    linear = products if wide == chosen else product_model(profile, chosen, matmul, memory)
    attentions = attention_model(profile, wide, attention, memory)
    power_w = None if profile.power_w is None else profile.power_w.value
    chip = load_chips().get(profile.chip_id)
    rated_w = chip.power_w if chip is not None and power_w is not None and chip.power_w else power_w
    full_clock = full_clock_power(profile.chip_id, wide, _large_rate(products))
    share = sustained_share(power_w, _large_rate(products), rated_w, full_clock.value)
    why = "asked for" if dtype else "the fastest that trains, bf16 preferred"
    inputs = (
        Input("training dtype", chosen, Evidence("derived" if dtype is None else "assumed", why)),
        *_products_inputs(chosen, linear, wide, products),
        _attention_input(attentions),
        _sustained_input(profile, share, full_clock),
        Input("memory traffic", f"{memory.rate / 1e9:.4g} GB/s + {memory.overhead_s * 1e6:.3g} us", memory.evidence),
        Input("memory size", f"{capacity.value / 1e9:.4g} GB", capacity.evidence),
    )
    peak = profile.peak_flops_per_s.get(profile_dtype(chosen, profile.peak_flops_per_s))
    return Machine(
        chip_id=profile.chip_id,
        name=profile.name,
        dtype=chosen,
        products=products,
        linear_products=linear,
        vector_products=profile.products.get("fp32", products),
        attentions=attentions,
        memory_ops=profile.memory_ops,
        host_link=host_link(profile),
        later_than_ampere=_later_than_ampere(profile.chip_id),
        sustained=share,
        full_clock=full_clock,
        power_w=power_w,
        rated_w=rated_w,
        attention_flops_per_s=_attention_rate(attentions),
        matmul=matmul,
        attention=attention,
        memory=memory,
        memory_bytes=capacity.value,
        peak_flops_per_s=None if peak is None else peak.value,
        links=_links(profile),
        inputs=inputs,
    )


def with_links(machine: Machine, links: Mapping[str, tuple[Link, ...]], inputs: tuple[Input, ...]) -> Machine:
    """The machine with other links and the inputs that say where they come from."""
    return replace(machine, links=links, inputs=(*machine.inputs, *inputs))
