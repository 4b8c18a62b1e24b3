"""Parts of a transformer: its experts, its latent attention, and its kinds of layers."""

from __future__ import annotations

from dataclasses import dataclass

from .model_checks import check_experts, check_fields


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The experts of the layers that have them (a mixture of experts)."""

    count: int
    """Routed experts of one layer."""
    active: int
    """Experts that each token is sent to (top-k)."""
    ffn_hidden: int
    """Width of one routed expert."""
    shared_ffn_hidden: int = 0
    """Width of all shared experts together, which every token passes."""
    first_dense: int = 0
    """Leading layers without experts; their MLP has the model's ``ffn_hidden``."""
    every: int = 1
    """One layer in so many has experts, the last of each group (beyond the first dense ones)."""
    capacity_factor: float | None = None
    """Tokens an expert takes at most, over the mean; what exceeds is dropped, what lacks is padded. None: nothing is dropped."""
    imbalance: float = 1.0
    """Tokens of the busiest rank over the mean (1: balanced)."""

    def __post_init__(self) -> None:
        check_fields(self, "experts")
        check_experts(self)


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values from one narrow vector."""

    kv_rank: int
    q_rank: int | None = None
    """None: queries are projected directly."""
    nope_dim: int
    """Dimensions of a query or key head without position."""
    rope_dim: int
    """Dimensions of a query or key head with rotary position; the key's are shared by all heads."""
    value_dim: int

    def __post_init__(self) -> None:
        check_fields(self, "latent")


@dataclass(frozen=True)
class Block:
    """Layers of one kind."""

    count: int
    has_experts: bool = False
    windowed: bool = False
