"""What is trained: the models that are named, or a few that suit the chip."""

from __future__ import annotations

from collections.abc import Sequence

from chipassay.results.errors import InputError
from chipassay.scaling.models import Transformer, load_model
from chipassay.scaling.plan import Recompute

from .decoder import check_trainable
from .measure import Case
from .trainer import as_trained

STATE_BYTES_PER_WEIGHT = 18
"""Weights, gradients and Adam in 16 bit: 2 + 4 + 12."""
STATES_AT_MOST = 0.65
"""Of the memory: activations and logits need the rest."""
TOKENS_AT_ONCE = 8192
"""Of a microbatch, where none is given: products of a GPU are no faster with more."""
CPU_TOKENS_AT_ONCE = 512

SETS: tuple[tuple[str, int, int, Recompute, bool], ...] = (
    ("gpt3-1.3b", 4, 2048, "none", False),
    ("llama3.2-1b", 2, 4096, "none", False),
    ("gpt3-2.7b", 4, 2048, "full", False),
    ("llama3.2-1b", 2, 4096, "none", True),
)
"""(model, microbatch, tokens, recompute, compiled) for chips of 64 GB and more: about a minute's work.
torch.compile comes last: it takes longest."""
SMALLER_SETS: tuple[tuple[str, int, int, Recompute, bool], ...] = (
    ("gpt3-350m", 4, 2048, "none", False),
    ("qwen2.5-0.5b", 1, 2048, "none", False),
    ("gpt3-125m", 4, 2048, "none", False),
    ("gpt3-350m", 4, 2048, "none", True),
)

TINY_GPT = Transformer(
    name="tiny-gpt", layers=2, hidden=128, heads=4, kv_heads=4, head_dim=32, ffn_hidden=512, gated=False, vocab=1000, seq_len=128,
    tied_embeddings=True, learned_positions=True, biases=True, source="made for CPUs: no published model",
)  # fmt: skip
TINY_LLAMA = Transformer(
    name="tiny-llama", layers=2, hidden=128, heads=4, kv_heads=2, head_dim=32, ffn_hidden=384, gated=True, rms_norm=True, vocab=1000,
    seq_len=128, tied_embeddings=False, source="made for CPUs: no published model",
)  # fmt: skip
"""They show that all works; how long they take is the host's affair, not the chip's."""


def default_cases(kind: str, memory_bytes: int) -> list[Case]:
    """Some models of different kinds whose weights, gradients and optimizer leave room on a chip of this memory.

    >>> [case.words for case in default_cases("cuda", 85 * 10**9)][2:]
    ['gpt3-2.7b, 4 x 2048 tokens, full recomputation, eager', 'llama3.2-1b, 2 x 4096 tokens, torch.compile']
    >>> [case.model.name for case in default_cases("cuda", 16 * 10**9)]
    ['gpt3-350m', 'qwen2.5-0.5b', 'gpt3-125m', 'gpt3-350m']
    """
    if kind == "cpu":
        return [Case(model=as_trained(model), microbatch=2) for model in (TINY_GPT, TINY_LLAMA)]
    for chosen in (SETS, SMALLER_SETS):
        models = [load_model(name) for name, *_ in chosen]
        if all(STATE_BYTES_PER_WEIGHT * model.parameters <= STATES_AT_MOST * memory_bytes for model in models):
            break
    return [
        Case(model=as_trained(model.with_seq_len(tokens)), microbatch=microbatch, recompute=recompute, compiled=compiled)
        for model, (_, microbatch, tokens, recompute, compiled) in zip(models, chosen, strict=True)
    ]


def asked_cases(
    kind: str, models: Sequence[str], microbatch: int | None, seq_len: int | None, recompute: Recompute, compiled: bool
) -> list[Case]:
    """A case for each model. Raises UnknownName, FileError, NotModelled; InputError for no model."""
    if not models:
        raise InputError("--model names no model; give one such as llama3.2-1b")
    found = []
    for name in models:
        model = load_model(name)
        if seq_len is not None:
            model = model.with_seq_len(seq_len)
        check_trainable(model)
        usual = max(1, (CPU_TOKENS_AT_ONCE if kind == "cpu" else TOKENS_AT_ONCE) // model.seq_len)
        found.append(Case(model=as_trained(model), microbatch=microbatch or usual, recompute=recompute, compiled=compiled))
    return found
