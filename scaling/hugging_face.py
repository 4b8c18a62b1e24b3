"""A transformer from a Hugging Face ``config.json``: its sizes read, each by the names its kind gives them, or refused."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError, InputError

from .errors import NotModelled
from .hugging_face_kinds import (
    DEFAULTS,
    FOUR_TIMES,
    KINDS,
    ONE_KEY_HEAD_EACH,
    REFUSED,
    WINDOW_BUT_EVERY,
    WINDOW_IN_ALL_LAYERS,
    WITH_EXPERTS,
    WITH_LATENT,
)
from .model_parts import Experts, Latent
from .transformer import Transformer

EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")
LATENT_KEYS = ("kv_lora_rank", "q_lora_rank")
DROPOUT_KEYS = ("resid_pdrop", "hidden_dropout", "hidden_dropout_prob", "dropout", "residual_dropout")
BERT_PREDICTED_SHARE = 80 / 512
"""Positions of a sequence of 512 whose logits BERT forms: ``max_predictions_per_seq`` of its pre-training data (google-research/bert,
README): 15 % are masked."""


@dataclass(frozen=True)
class Config:
    """The config of one kind, with what its class would fill in."""

    path: Path
    kind: str
    values: Mapping[str, Any]
    given: Collection[str] = ()
    """The keys of the file itself."""
    asked: set[str] = field(default_factory=set)
    """The keys that were looked for."""

    def get(self, *keys: str) -> Any:
        """The first of these that is given, else None."""
        for key in keys:
            self.asked.add(key)
            if self.values.get(key) is not None:
                return self.values[key]
        return None

    def whole(self, *keys: str, default: int | None = None) -> int:
        """A whole number under the first of these keys that is given. Raises FileError naming the key."""
        value = self.get(*keys)
        if value is None and default is not None:
            return default
        if value is None:
            raise FileError(self.path, f"{' or '.join(keys)} is not given", mend="add it")
        if not isinstance(value, int) or isinstance(value, bool):
            key = next(key for key in keys if self.values.get(key) is not None)
            raise FileError(self.path, f"{key} is {value!r}", mend="give a whole number")
        return value

    def listed(self, key: str) -> list[Any]:
        """The list under this key, empty where there is none. Raises FileError where it is something else."""
        return self._of(list, key, "list")

    def table(self, key: str) -> dict[str, Any]:
        """The object under this key, empty where there is none. Raises FileError where it is something else."""
        return self._of(dict, key, "object")

    def _of(self, kind: type[Any], key: str, called: str) -> Any:
        value = self.values.get(key, kind())
        if not isinstance(value, kind):
            raise FileError(self.path, f"{key} is {value!r}", mend=f"give a JSON {called}")
        return value

    def refuse(self, what: str) -> NotModelled:
        return NotModelled(f"{self.path}: {self.kind} with {what} is not modelled")


def from_hugging_face(path: Path, text: str) -> Transformer:
    """The transformer of a config's text.

    Raises FileError for what is not such a config, NotModelled for a kind, or a setting of it, that is not modelled.
    """
    config = _config(path, text)
    kind = config.kind
    heads = config.whole("num_attention_heads", "n_head", "n_heads")
    hidden = config.whole("hidden_size", "n_embd", "d_model", "n_embed")
    sizes: dict[str, Any] = {
        **KINDS[kind],
        "name": str(config.get("_name_or_path") or path.parent.name or kind),
        "layers": config.whole("num_hidden_layers", "n_layer", "n_layers"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": heads if kind in ONE_KEY_HEAD_EACH else config.whole("num_key_value_heads", default=heads),
        "head_dim": config.whole("head_dim", default=hidden // max(1, heads)),
        "vocab": config.whole("vocab_size"),
        "seq_len": config.whole("max_position_embeddings", "n_positions", "seq_length", "max_seq_len", "model_max_length"),
        "dropout": any(config.get(key) for key in DROPOUT_KEYS),
        "experts": _experts(config),
        "latent": _latent(config),
        "source": str(path),
    }
    width = config.whole("expansion_ratio") * hidden if kind == "mpt" else 4 * hidden if kind in FOUR_TIMES else None
    sizes["ffn_hidden"] = config.whole("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", default=width)
    if config.get("tie_word_embeddings") is not None:
        sizes["tied_embeddings"] = bool(config.get("tie_word_embeddings"))
    if kind in SPECIAL:
        sizes |= SPECIAL[kind](config)
    if sizes["latent"] is not None:
        sizes |= {"kv_heads": heads, "head_dim": sizes["latent"].nope_dim + sizes["latent"].rope_dim}
        sizes["mtp_depth"] = config.whole("num_nextn_predict_layers", default=0)
    window, full_every = _window(config, sizes["layers"])
    if window is not None and window < sizes["seq_len"]:
        sizes |= {"window": window, "full_every": full_every}
    _refuse_misspelt(config)
    try:
        return Transformer(**sizes)
    except InputError as error:
        raise FileError(path, str(error)) from error


def _config(path: Path, text: str) -> Config:
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileError(path, f"not JSON ({error.msg})", line=error.lineno) from error
    except RecursionError as error:
        raise FileError(path, "not a config: it is nested too deeply") from error
    if not isinstance(data, dict) or not isinstance(data.get("model_type"), str):
        raise FileError(path, "no model_type: not a Hugging Face model config", mend="give the config.json of a language model")
    kind = data["model_type"]
    if kind == "gemma3" and isinstance(data.get("text_config"), dict):  # its pictures are encoded by another model, left out
        kind, data = "gemma3_text", data["text_config"]
    if kind in REFUSED:
        raise NotModelled(f"{path}: model_type {kind!r} has {REFUSED[kind]}, which is not modelled; known: {', '.join(sorted(KINDS))}")
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=3, cutoff=0.7)
        offer = f"the nearest known are {', '.join(near)}" if near else f"known: {', '.join(sorted(KINDS))}"
        raise NotModelled(f"{path}: model_type {kind!r} is not modelled; {offer}")
    values = {**DEFAULTS.get(kind, {}), **{key: value for key, value in data.items() if value is not None}}
    config = Config(path, kind, values, data.keys())
    for keys, allowed, what in ((EXPERT_KEYS, WITH_EXPERTS, "experts"), (LATENT_KEYS, WITH_LATENT, "latent attention")):
        for key in keys:
            if config.get(key) and kind not in allowed:
                raise config.refuse(f"{what} ({key} = {config.get(key)})")
    return config


def _refuse_misspelt(config: Config) -> None:
    """A default would hide that a field's name is misspelt. Configs have many fields that nobody asks for: only names that all but agree
    with one that was looked for in vain are refused. Those that begin with an underscore are transformers' own notes."""
    missed = config.asked - set(config.given)
    for key in (key for key in config.given if key not in config.asked and not key.startswith("_")):
        near = difflib.get_close_matches(key, missed, n=1, cutoff=0.93)
        if near:
            raise FileError(config.path, f"unknown field {key!r}", mend=f"did you mean {near[0]}?")


def _experts(config: Config) -> Experts | None:
    if config.kind not in WITH_EXPERTS:
        return None
    if config.whole("moe_layer_freq", default=1) != 1:
        raise config.refuse(f"experts in one of {config.get('moe_layer_freq')} layers")
    width = config.whole("moe_intermediate_size", "intermediate_size")
    dense = config.listed("mlp_only_layers")
    every = config.whole("decoder_sparse_step", default=1)
    if dense != list(range(len(dense))) or (dense and every > 1):
        raise config.refuse(f"dense layers {dense} between those with experts")
    try:
        return Experts(
            count=config.whole(*EXPERT_KEYS),
            active=config.whole("num_experts_per_tok", "experts_per_token"),
            ffn_hidden=width,
            shared_ffn_hidden=config.whole("shared_expert_intermediate_size", default=width * config.whole("n_shared_experts", default=0)),
            first_dense=config.whole("first_k_dense_replace", default=len(dense)),
            every=every,
        )
    except FileError:
        raise
    except InputError as error:
        raise FileError(config.path, str(error)) from error


def _latent(config: Config) -> Latent | None:
    if config.kind not in WITH_LATENT:
        return None
    try:
        return Latent(
            kv_rank=config.whole("kv_lora_rank"),
            q_rank=config.get("q_lora_rank"),
            nope_dim=config.whole("qk_nope_head_dim"),
            rope_dim=config.whole("qk_rope_head_dim"),
            value_dim=config.whole("v_head_dim"),
        )
    except FileError:
        raise
    except InputError as error:
        raise FileError(config.path, str(error)) from error


def _window(config: Config, layers: int) -> tuple[int | None, int | None]:
    """The sliding window and every how many layers see all; (None, None) where all do."""
    kinds = config.listed("layer_types")
    if kinds:
        return _window_of(config, kinds)
    if config.get("sliding_window") is None:
        return None, None
    if config.kind in WINDOW_BUT_EVERY:
        return config.whole("sliding_window"), config.whole("sliding_window_pattern", default=WINDOW_BUT_EVERY[config.kind])
    if config.kind in WINDOW_IN_ALL_LAYERS:
        return config.whole("sliding_window"), None
    if config.get("use_sliding_window"):  # Qwen: from the layer max_window_layers on
        full = config.whole("max_window_layers", default=layers)
        if 0 < full < layers:
            raise config.refuse(f"a window in the last {layers - full} of {layers} layers")
        if full == 0:
            return config.whole("sliding_window"), None
    return None, None


def _window_of(config: Config, kinds: list[Any]) -> tuple[int | None, int | None]:
    for other in kinds:
        if other not in ("full_attention", "sliding_attention"):
            raise config.refuse(f"layers of {other}")
    full = [index + 1 for index, kind in enumerate(kinds) if kind == "full_attention"]
    if len(full) == len(kinds):
        return None, None
    if not full:
        return config.whole("sliding_window"), None
    if full != list(range(full[0], len(kinds) + 1, full[0])):
        raise config.refuse("layer_types that do not repeat")
    return config.whole("sliding_window"), full[0]


def _bert(config: Config) -> dict[str, Any]:
    if config.get("position_embedding_type") not in (None, "absolute"):
        raise config.refuse(f"{config.get('position_embedding_type')} positions")
    return {"predicted_share": BERT_PREDICTED_SHARE, **({"head_layers": 1} if config.kind == "roberta" else {})}


def _bigcode(config: Config) -> dict[str, Any]:
    return {"kv_heads": 1} if config.values.get("multi_query", True) else {}


def _falcon(config: Config) -> dict[str, Any]:
    new = bool(config.get("new_decoder_architecture"))
    heads = config.whole("num_attention_heads", "n_head")
    parallel = new or bool(config.values.get("parallel_attn", True))
    norms = config.whole("num_ln_in_parallel_attn", default=2 if new else 1) if parallel else 2
    one = 1 if config.values.get("multi_query", True) else heads
    return {
        "kv_heads": config.whole("num_kv_heads", "n_head_kv", default=heads) if new else one,
        "biases": bool(config.get("bias")),
        "norm_biases": True,
        "parallel": parallel,
        "norms": norms,
        "alibi": bool(config.get("alibi")),
    }


def _attention_bias(config: Config) -> dict[str, Any]:
    given = config.get("attention_bias")
    return {} if given is None else {"qkv_biases": bool(given)}


def _mpt(config: Config) -> dict[str, Any]:
    attention = config.table("attn_config")
    alibi = bool(attention.get("alibi", True))
    biases = not config.values.get("no_bias", True)
    return {
        "kv_heads": attention.get("kv_n_heads") or config.whole("n_heads"),
        "biases": biases,
        "alibi": alibi,
        "learned_positions": not alibi and bool(config.values.get("learned_pos_emb", True)),
    }


def _neox(config: Config) -> dict[str, Any]:
    return {"parallel": bool(config.values.get("use_parallel_residual", True))}


def _opt(config: Config) -> dict[str, Any]:
    if config.get("word_embed_proj_dim") not in (None, config.get("hidden_size")):
        raise config.refuse(f"embeddings of width {config.get('word_embed_proj_dim')}, other than hidden_size")
    return {}


def _baichuan(config: Config) -> dict[str, Any]:
    return {"alibi": config.get("max_position_embeddings") is None}  # the 13B models; the 7B models are rotary


SPECIAL = {
    "baichuan": _baichuan,
    "bert": _bert,
    "falcon": _falcon,
    "gemma": _attention_bias,
    "glm": _attention_bias,
    "glm4": _attention_bias,
    "gpt_bigcode": _bigcode,
    "gpt_neox": _neox,
    "llama": _attention_bias,
    "mpt": _mpt,
    "opt": _opt,
    "roberta": _bert,
}
"""What depends on further settings of a kind: fields that take the place of those of KINDS."""
