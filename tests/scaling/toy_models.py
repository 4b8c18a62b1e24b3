"""Models with round numbers, so that answers can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

from chipassay.scaling.models import Experts, Latent, Transformer

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
DENSE = replace(ROUTED, name="dense", kv_heads=16, experts=None, ffn_hidden=2816)
GPT = replace(DENSE, name="gpt", gated=False, rms_norm=False, learned_positions=True, biases=True, dropout=True, ffn_hidden=4096)
MODELS = {
    "dense": DENSE,
    "grouped queries": replace(DENSE, kv_heads=8),
    "two plain matrices": GPT,
    "bidirectional": replace(GPT, causal=False, predicted_share=0.15),
    "windows in most layers": replace(DENSE, window=256, full_every=4),
    "experts": replace(ROUTED, kv_heads=8, experts=Experts(count=8, active=2, ffn_hidden=512)),
    "experts and shared ones": replace(ROUTED, kv_heads=8),
    "experts in every second layer": replace(ROUTED, kv_heads=8, experts=Experts(count=8, active=1, ffn_hidden=512, every=2)),
    "latent": replace(DENSE, head_dim=96, latent=Latent(kv_rank=256, q_rank=384, nope_dim=64, rope_dim=32, value_dim=64)),
    "latent with plain queries": replace(DENSE, head_dim=96, latent=Latent(kv_rank=256, nope_dim=64, rope_dim=32, value_dim=64)),
}
