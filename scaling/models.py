"""The transformer as the scaling model sees it: its sizes, parameters and FLOPs. Presets, TOML, or a Hugging Face config.json."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError, UnknownName

from .errors import NotModelled

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = Path(__file__).with_name("presets")

DENSE_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "opt", "bloom", "phi3", "gemma", "olmo2", "baichuan"})
"""``model_type`` values of Hugging Face configs whose layers are the dense decoder layers modelled here."""

EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size", "num_experts_per_tok")
LATENT_KEYS = ("kv_lora_rank", "q_lora_rank")

BACKWARD_OVER_FORWARD = 2.0
"""A backward pass multiplies twice: once for the gradient of the input, once for the gradient of the weights."""


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
    """One layer in so many has experts (beyond the first dense ones)."""
    capacity_factor: float | None = None
    """Tokens an expert takes at most, over the mean; what exceeds is dropped, what lacks is padded. None: nothing is dropped."""
    imbalance: float = 1.0
    """Tokens of the busiest rank over the mean (1: balanced)."""


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values from one narrow vector."""

    kv_rank: int
    q_rank: int | None
    """None: queries are projected directly."""
    nope_dim: int
    """Dimensions of a query or key head without position."""
    rope_dim: int
    """Dimensions of a query or key head with rotary position; the key's are shared by all heads."""
    value_dim: int


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A transformer: decoder, or encoder where ``causal`` is false; dense, or with experts."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_hidden: int
    gated: bool
    """True: the MLP has gate and up projections (SwiGLU); False: one up projection."""
    vocab: int
    seq_len: int
    tied_embeddings: bool
    learned_positions: bool = False
    biases: bool = False
    """Biases in the linear layers and in the norms (GPT-2 kind)."""
    qkv_biases: bool = False
    """Biases in the query, key and value projections alone (Qwen2 kind)."""
    dropout: bool = False
    """Trained with dropout, whose masks take memory and bandwidth."""
    causal: bool = True
    """False: every position sees all (BERT)."""
    window: int | None = None
    """Sliding window: positions that a token sees, itself included."""
    full_every: int | None = None
    """With a window: one layer in so many sees everything; None: none does."""
    rms_norm: bool = False
    """Norms without mean and bias."""
    qk_norm: bool = False
    """Queries and keys of each head are normalised."""
    experts: Experts | None = None
    latent: Latent | None = None
    mtp_depth: int = 0
    """Further tokens predicted, each by one layer, a projection of 2h to h, and the shared head (DeepSeek-V3, section 2.2)."""
    vocab_multiple: int = 1
    """The vocabulary is padded to a multiple of this times TP (Megatron-LM: 128)."""
    source: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "mtp_depth" else 1
            if field.type == "int" and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise NotModelled(f"model {self.name!r}: {field.name} is {value!r}; give a whole number of at least {least}")
        if self.heads % self.kv_heads:
            raise NotModelled(f"model {self.name!r}: {self.heads} heads do not divide into {self.kv_heads} kv_heads; make it divide")

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def mlp_matrices(self) -> int:
        return 3 if self.gated else 2

    @property
    def layer_matmul_parameters(self) -> int:
        """Weights of one layer that take part in a matrix product."""
        attention = self.hidden * (2 * self.q_width + 2 * self.kv_width)
        return attention + self.mlp_matrices * self.hidden * self.ffn_hidden

    @property
    def layer_parameters(self) -> int:
        """All weights of one layer: matrices, biases and the two norms."""
        norms = 2 * self.hidden * (2 if self.biases else 1)
        qkv_biases = self.q_width + 2 * self.kv_width
        biases = 0
        if self.biases:
            up = self.ffn_hidden * (2 if self.gated else 1)
            biases = qkv_biases + self.hidden + up + self.hidden
        elif self.qkv_biases:
            biases = qkv_biases
        return self.layer_matmul_parameters + norms + biases

    @property
    def embedding_parameters(self) -> int:
        """The token table, and the position table where it is learned."""
        return self.vocab * self.hidden + (self.seq_len * self.hidden if self.learned_positions else 0)

    @property
    def parameters(self) -> int:
        """All weights.

        >>> round(load_model("llama3-8b").parameters / 1e9, 2)
        8.03
        """
        head = 0 if self.tied_embeddings else self.vocab * self.hidden
        final_norm = self.hidden * (2 if self.biases else 1)
        return self.layers * self.layer_parameters + self.embedding_parameters + head + final_norm

    def forward_flops_per_token(self, *, causal: bool) -> float:
        """FLOPs of one token's forward pass: 2 per weight of every matrix product (the logits included, the embedding look-up
        not), and 4 * seq_len * heads * head_dim per layer for the attention scores and their use: half of it if ``causal``,
        since a position then sees half of the sequence on average."""
        attention = 4.0 * self.seq_len * self.q_width * (0.5 if causal else 1.0)
        return self.layers * (2.0 * self.layer_matmul_parameters + attention) + 2.0 * self.hidden * self.vocab

    def training_flops_per_token(self, *, causal: bool) -> float:
        """Model FLOPs of one trained token, forward and backward, nothing recomputed: what an MFU counts."""
        return (1.0 + BACKWARD_OVER_FORWARD) * self.forward_flops_per_token(causal=causal)

    def with_seq_len(self, seq_len: int) -> Transformer:
        """The same model trained on sequences of another length."""
        return replace(self, seq_len=seq_len)


@lru_cache(maxsize=1)
def preset_names() -> tuple[str, ...]:
    """The names of the shipped models."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def load_model(name_or_path: str) -> Transformer:
    """A shipped model by name, or one from a ``.toml`` of these fields or a Hugging Face ``config.json``."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return _from_toml(path)
    if path.suffix == ".json":
        return from_hugging_face(path)
    if path.is_dir() and (path / "config.json").exists():
        return from_hugging_face(path / "config.json")
    if name_or_path.lower() not in preset_names():
        raise UnknownName("model", name_or_path, preset_names())
    return _from_toml(PRESETS / f"{name_or_path.lower()}.toml")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give a model name, a .toml or a config.json") from error


@lru_cache(maxsize=64)
def _from_toml(path: Path) -> Transformer:
    try:
        data: dict[str, Any] = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise FileError(path, f"not TOML ({error})") from error
    data.setdefault("name", path.stem)
    known = {field.name for field in fields(Transformer)}
    for key in data:
        if key not in known:
            raise FileError(path, f"unknown field {key!r}", mend=f"known: {', '.join(sorted(known))}")
    data.setdefault("kv_heads", data.get("heads"))
    try:
        if "head_dim" not in data and data.get("hidden") and data.get("heads"):
            data["head_dim"] = data["hidden"] // data["heads"]
        return Transformer(**data)
    except TypeError as error:
        raise FileError(path, str(error).replace("Transformer.__init__()", "a model"), mend="add the field") from error


def from_hugging_face(path: Path) -> Transformer:
    """A dense decoder from a Hugging Face ``config.json``; NotModelled for experts, latent attention or an unknown kind."""
    try:
        config: Any = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise FileError(path, f"not JSON ({error.msg})", line=error.lineno) from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise FileError(path, "no model_type: not a Hugging Face model config", mend="give the config.json of a language model")
    kind = str(config["model_type"])
    for key in EXPERT_KEYS:
        if config.get(key):
            raise NotModelled(f"{path}: {kind} has experts ({key} = {config[key]}), not modelled yet: give a dense model")
    for key in LATENT_KEYS:
        if config.get(key):
            raise NotModelled(f"{path}: {kind} has latent attention ({key} = {config[key]}), not modelled yet: give a model without")
    if kind not in DENSE_TYPES:
        raise NotModelled(f"{path}: model_type {kind!r} is not modelled; known dense kinds: {', '.join(sorted(DENSE_TYPES))}")

    def first(*keys: str, default: Any = None) -> Any:
        for key in keys:
            if config.get(key) is not None:
                return config[key]
        if default is None:
            raise FileError(path, f"none of {', '.join(keys)} is given", mend="add it")
        return default

    gpt_kind = kind in ("gpt2", "opt", "bloom", "gpt_neox")
    hidden = int(first("hidden_size", "n_embd"))
    heads = int(first("num_attention_heads", "n_head"))
    learned = kind in ("gpt2", "opt")
    return Transformer(
        name=str(config.get("_name_or_path") or path.parent.name or kind),
        layers=int(first("num_hidden_layers", "n_layer")),
        hidden=hidden,
        heads=heads,
        kv_heads=int(first("num_key_value_heads", default=heads)),
        head_dim=int(first("head_dim", default=hidden // heads)),
        ffn_hidden=int(first("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden if gpt_kind else None)),
        gated=not gpt_kind,
        vocab=int(first("vocab_size")),
        seq_len=int(first("max_position_embeddings", "n_positions", "seq_length")),
        tied_embeddings=bool(first("tie_word_embeddings", default=kind in ("gpt2", "opt", "bloom", "gemma"))),
        learned_positions=learned,
        biases=gpt_kind,
        qkv_biases=kind == "qwen2",
        dropout=bool(config.get("resid_pdrop") or config.get("hidden_dropout") or config.get("dropout")),
        source=str(path),
    )
