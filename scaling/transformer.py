"""The transformer as the scaling model sees it: its sizes, and in closed form its weights and FLOPs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from .model_checks import check_fields, check_shape
from .model_parts import Block, Experts, Latent

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

Whole = TypeVar("Whole", int, "Array")

BACKWARD_OVER_FORWARD = 2.0
"""A backward pass multiplies twice: once for the gradient of the input, once for the gradient of the weights."""


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A transformer: decoder, or encoder where ``causal`` is false; dense, or with experts."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    """Dimensions of a query or key head; with latent attention ``nope_dim + rope_dim``."""
    ffn_hidden: int
    gated: bool
    """True: the MLP has gate and up projections (SwiGLU); False: one up projection."""
    vocab: int
    seq_len: int
    tied_embeddings: bool
    learned_positions: bool = False
    alibi: bool = False
    """Positions as a bias on the scores (BLOOM, MPT). Neither learned nor this: rotary."""
    biases: bool = False
    """Biases in the linear layers and in the norms (GPT-2 kind)."""
    qkv_biases: bool = False
    """Biases in the query, key and value projections alone (Qwen2 kind)."""
    norm_biases: bool = False
    """Biases in the norms alone (Falcon kind)."""
    dropout: bool = False
    """Trained with dropout, whose masks take memory and bandwidth."""
    causal: bool = True
    """False: every position sees all (BERT)."""
    window: int | None = None
    """Sliding window: positions that a token sees, itself included."""
    full_every: int | None = None
    """With a window: one layer in so many sees everything, the last of each group; None: none does."""
    rms_norm: bool = False
    """Norms without mean and bias."""
    norms: int = 2
    """Norms of one layer (Gemma 2: 4; GPT-J: 1)."""
    parallel: bool = False
    """Attention and MLP both read the layer's input and are added together (GPT-J, GPT-NeoX, Falcon): under TP one sum, not two."""
    qk_norm: bool = False
    """Queries and keys of each head are normalised."""
    experts: Experts | None = None
    latent: Latent | None = None
    mtp_depth: int = 0
    """Further tokens predicted, each by one layer, a projection of 2h to h, and the shared head (DeepSeek-V3, section 2.2)."""
    vocab_multiple: int = 1
    """The vocabulary is padded to a multiple of this times TP (Megatron-LM: 128)."""
    predicted_share: float = 1.0
    """Share of the positions whose logits are formed (BERT gathers the masked ones)."""
    head_layers: int = 0
    """Square layers between the last layer and the losses (BERT: the pooler and the transform). Their FLOPs are left out: they see
    one position, or the masked ones."""
    source: str = ""

    def __post_init__(self) -> None:
        check_fields(self, f"model {self.name!r}")
        check_shape(self)

    # Sizes

    @property
    def rotary(self) -> bool:
        """Queries and keys are turned by their position."""
        return not (self.learned_positions or self.alibi)

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of the keys, and of the values; with latent attention those of the keys once they are expanded."""
        return self.kv_heads * self.head_dim

    @property
    def value_width(self) -> int:
        """Columns of the attention's output, before its projection."""
        return self.heads * (self.latent.value_dim if self.latent else self.head_dim)

    @property
    def mlp_matrices(self) -> int:
        return 3 if self.gated else 2

    def padded_vocab(self, tp: Whole) -> Whole:
        """Rows of the token table and columns of the logits, over all ranks of a TP group (a number or an array of them).

        >>> from chipassay.scaling.models import load_model
        >>> load_model("gpt3-175b").padded_vocab(8)  # 50,257 in 8 equal parts
        50264
        """
        step = self.vocab_multiple * tp
        return -(-self.vocab // step) * step

    def has_experts(self, layer: int) -> bool:
        """Whether the layer of this index (from 0) has experts."""
        experts = self.experts
        return experts is not None and layer >= experts.first_dense and (layer - experts.first_dense + 1) % experts.every == 0

    def windowed(self, layer: int) -> bool:
        """Whether the layer of this index (from 0) sees a window only."""
        return self.window is not None and (self.full_every is None or (layer + 1) % self.full_every != 0)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The kinds of layers and how many there are of each, in the order in which they first come; further-token layers not included."""
        kinds = Counter((self.has_experts(layer), self.windowed(layer)) for layer in range(self.layers))
        return tuple(Block(count, *kind) for kind, count in kinds.items())

    @property
    def mtp_block(self) -> Block:
        """The layers that predict further tokens: of the last layer's kind."""
        last = self.layers - 1
        return Block(self.mtp_depth, self.has_experts(last), self.windowed(last))

    def positions_seen(self, block: Block, *, causal: bool) -> float:
        """Positions whose scores are counted for one token, on average.

        All of the sequence (``window`` in a windowed layer); if ``causal``, and the model is, only those before it: s / 2, and
        w - w^2 / 2s in a window w, since the first w tokens see half of it (both without the half position of the token itself).
        """
        seen = float(min(self.window, self.seq_len) if block.windowed and self.window else self.seq_len)
        return seen - seen * seen / (2 * self.seq_len) if causal and self.causal else seen

    # Weights

    @property
    def norm_parameters(self) -> int:
        """Weights of one norm over the hidden dimension."""
        return self.hidden * (2 if (self.biases or self.norm_biases) and not self.rms_norm else 1)

    @cached_property
    def attention_parameters(self) -> int:
        """Weights of one layer's attention that take part in a matrix product."""
        output = self.value_width * self.hidden
        if self.latent is None:
            return self.hidden * (self.q_width + 2 * self.kv_width) + output
        one = self.latent
        queries = self.hidden * self.q_width if one.q_rank is None else one.q_rank * (self.hidden + self.q_width)
        down = self.hidden * (one.kv_rank + one.rope_dim)
        return queries + down + one.kv_rank * self.heads * (one.nope_dim + one.value_dim) + output

    def mlp_parameters(self, width: int) -> int:
        """Weights of the matrices of an MLP, or of an expert, of this width."""
        return self.mlp_matrices * self.hidden * width

    def expert_parameters(self, block: Block) -> int:
        """All weights of the routed experts of one such layer: what expert parallelism spreads. 0 without experts."""
        if self.experts is None or not block.has_experts:
            return 0
        return self.experts.count * (self.mlp_parameters(self.experts.ffn_hidden) + self._mlp_biases(self.experts.ffn_hidden))

    def block_parameters(self, block: Block) -> int:
        """All weights of one such layer: matrices, routed experts, router, biases and norms."""
        attention = self.attention_parameters + self._attention_vectors
        norms = self.norms * self.norm_parameters
        experts = self.experts
        if experts is None or not block.has_experts:
            return attention + norms + self.mlp_parameters(self.ffn_hidden) + self._mlp_biases(self.ffn_hidden)
        shared = experts.shared_ffn_hidden
        mlp = self.mlp_parameters(shared) + (self._mlp_biases(shared) if shared else 0)
        router = self.hidden * experts.count + (experts.count if self.biases else 0)
        return attention + norms + router + mlp + self.expert_parameters(block)

    @property
    def layer_parameters(self) -> float:
        """All weights of one layer, the mean over the layers (in a dense model each has so many)."""
        return sum(block.count * self.block_parameters(block) for block in self.blocks) / self.layers

    @property
    def embedding_parameters(self) -> int:
        """The token table, and the position table where it is learned."""
        return self.vocab * self.hidden + (self.seq_len * self.hidden if self.learned_positions else 0)

    @cached_property
    def parameters(self) -> int:
        """All weights of the model that is published, layers for further tokens (``mtp_parameters``) apart; no padding.

        >>> from chipassay.scaling.models import load_model
        >>> round(load_model("llama3-8b").parameters / 1e9, 2), round(load_model("deepseek-v3").parameters / 1e9, 1)
        (8.03, 671.0)
        """
        layers = sum(block.count * self.block_parameters(block) for block in self.blocks)
        head = 0 if self.tied_embeddings else self.vocab * self.hidden
        last = self.norm_parameters + self.head_layers * (self.hidden + 1) * self.hidden
        return layers + self.embedding_parameters + head + last

    @property
    def mtp_parameters(self) -> int:
        """Weights of the layers that predict further tokens, without the table and the head that they share."""
        return self.mtp_depth * (self.block_parameters(self.mtp_block) + 2 * self.hidden * self.hidden + 3 * self.norm_parameters)

    @property
    def active_parameters(self) -> int:
        """Weights that one token meets, both embeddings counted: all but the experts it is not sent to.

        >>> from chipassay.scaling.models import load_model
        >>> round(load_model("mixtral-8x7b").active_parameters / 1e9, 1)
        12.9
        """
        if self.experts is None:
            return self.parameters
        idle = self.experts.count - self.experts.active
        return self.parameters - sum(block.count * self.expert_parameters(block) // self.experts.count * idle for block in self.blocks)

    @property
    def _attention_vectors(self) -> int:
        """Biases of the attention's projections, and the norms within it."""
        norms = 2 * self.head_dim if self.qk_norm else 0
        if self.latent is not None:
            norms += self.latent.kv_rank + (self.latent.q_rank or 0)
        biases = self.q_width + 2 * self.kv_width if self.biases or self.qkv_biases else 0
        return norms + biases + (self.hidden if self.biases else 0)

    def _mlp_biases(self, width: int) -> int:
        return width * (2 if self.gated else 1) + self.hidden if self.biases else 0

    # FLOPs

    def matmul_parameters(self, block: Block) -> int:
        """Weights of one such layer that multiply one token: of the experts, the router, the shared ones and ``active`` others."""
        experts = self.experts
        if experts is None or not block.has_experts:
            return self.attention_parameters + self.mlp_parameters(self.ffn_hidden)
        width = experts.active * experts.ffn_hidden + experts.shared_ffn_hidden
        return self.attention_parameters + self.hidden * experts.count + self.mlp_parameters(width)

    @property
    def layer_matmul_parameters(self) -> float:
        """Weights of one layer that multiply one token, the mean over the layers."""
        return sum(block.count * self.matmul_parameters(block) for block in self.blocks) / self.layers

    def block_flops_per_token(self, block: Block, *, causal: bool) -> float:
        """FLOPs of one token's forward pass through one such layer: 2 per weight that multiplies it, and 2 per position seen and
        column of the queries (scores) and of the values (their use)."""
        attention = 2.0 * self.positions_seen(block, causal=causal) * (self.q_width + self.value_width)
        return 2.0 * self.matmul_parameters(block) + attention

    @property
    def head_flops_per_token(self) -> float:
        """FLOPs of one token's logits, forward, over the unpadded vocabulary; ``predicted_share`` of the positions have them."""
        return 2.0 * self.hidden * self.vocab * self.predicted_share

    def forward_flops_per_token(self, *, causal: bool) -> float:
        """FLOPs of one token's forward pass: the products of the layers and of the logits, and the attention.

        The embedding look-up, norms and activations multiply nothing and are not counted. ``causal``: count only scores that a
        causal model forms (FlashAttention, arXiv 2205.14135), half of the sequence; else all (Narayanan et al. 2021, arXiv
        2104.04473, appendix; PaLM, arXiv 2204.02311, appendix B), the window's in a windowed layer. A model that is not causal
        forms all either way. Layers for further tokens are counted with their projection (2h to h) and logits.
        """
        layers = sum(block.count * self.block_flops_per_token(block, causal=causal) for block in self.blocks)
        further = self.block_flops_per_token(self.mtp_block, causal=causal) + 4.0 * self.hidden**2 + self.head_flops_per_token
        return layers + self.head_flops_per_token + self.mtp_depth * further

    def training_flops_per_token(self, *, causal: bool) -> float:
        """Model FLOPs of one trained token, forward and backward, nothing recomputed: what an MFU counts."""
        return (1.0 + BACKWARD_OVER_FORWARD) * self.forward_flops_per_token(causal=causal)

    def with_seq_len(self, seq_len: int) -> Transformer:
        """The same model trained on sequences of another length."""
        return replace(self, seq_len=seq_len)
