"""Models with round numbers, so that answers can be worked out by hand."""

from __future__ import annotations

from chipassay.scaling.models import Experts, Transformer

ROUTED = Transformer(
    name="routed",
    layers=8,
    hidden=1024,
    heads=16,
    kv_heads=4,
    head_dim=64,
    ffn_hidden=4096,
    gated=True,
    vocab=32000,
    seq_len=2048,
    tied_embeddings=False,
    rms_norm=True,
    experts=Experts(count=8, active=2, ffn_hidden=512, shared_ffn_hidden=512, first_dense=1),
)
