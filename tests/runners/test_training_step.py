"""The training that `validate --here` times is a real one: its weights, its mathematics, its memory, and that it learns."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest

from chipassay.runners.training_step.decoder import check_trainable, make_layer, rotation, shapes
from chipassay.runners.training_step.trainer import FP16_LOSS_SCALE, Trainer, as_trained
from chipassay.scaling.errors import NotModelled
from chipassay.scaling.models import Transformer, load_model, preset_names
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import hardware_flops_per_token

torch = pytest.importorskip("torch")
FlopCounterMode = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode

GPT = Transformer(
    name="gpt", layers=2, hidden=32, heads=4, kv_heads=4, head_dim=8, ffn_hidden=64, gated=False, vocab=300, seq_len=16,
    tied_embeddings=True, learned_positions=True, biases=True,
)  # fmt: skip
LLAMA = replace(GPT, name="llama", kv_heads=2, gated=True, rms_norm=True, learned_positions=False, biases=False, tied_embeddings=False)
TIED_LLAMA = replace(LLAMA, name="tied", tied_embeddings=True, qkv_biases=True, qk_norm=True)
PARALLEL = replace(GPT, name="parallel", parallel=True, norms=1, learned_positions=False, biases=False, norm_biases=True)
KINDS = [GPT, LLAMA, TIED_LLAMA, PARALLEL]
REFUSED = {
    "mixtral-8x7b": "experts", "deepseek-v3": "experts", "bert-base": "later tokens", "bloom-176b": "ALiBi", "mistral-7b": "window",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(1)


def attention(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])


def trainer(model: Transformer, dtype: str = "fp32", **more) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(as_trained(model), 2, dtype, "cpu", attention, **more)


def trainable() -> list[str]:
    found = []
    for name in preset_names():
        try:
            check_trainable(load_model(name))
        except NotModelled:
            continue
        found.append(name)
    return found


def weights_of(model: Transformer) -> int:
    found = shapes(model)
    return sum(map(math.prod, found.ends.values())) + model.layers * sum(map(math.prod, found.layer.values()))


def test_most_presets_can_be_trained() -> None:
    assert {"gpt3-1.3b", "llama3.2-1b", "gpt-neox-20b", "gpt-j-6b", "falcon-7b", "qwen3-0.6b", "opt-1.3b"} <= set(trainable())


@pytest.mark.parametrize("name", trainable())
def test_a_model_is_built_with_exactly_the_weights_that_it_has(name: str) -> None:
    model = replace(load_model(name), vocab_multiple=1)
    assert weights_of(model) == model.parameters


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_built_is_refused_by_its_reason(name: str) -> None:
    with pytest.raises(NotModelled, match=REFUSED[name]):
        check_trainable(load_model(name))


def test_a_window_as_long_as_the_sequence_is_none() -> None:
    check_trainable(load_model("mistral-7b").with_seq_len(4096))


@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.name)
def test_padding_of_the_vocabulary_is_all_that_is_added(model: Transformer) -> None:
    padding = as_trained(model).padded_vocab(1) - model.vocab
    assert padding == 84
    assert trainer(model).parameters == model.parameters + padding * model.hidden * (1 if model.tied_embeddings else 2)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.name)
def test_it_begins_as_a_guess_and_learns_its_batch(model: Transformer, dtype: str) -> None:
    training = trainer(model, dtype, learning_rate=3e-3)
    losses = [float(training.step()) for _ in range(12)]
    assert losses[0] == pytest.approx(math.log(384), abs=0.2)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(("dtype", "per_weight"), [("fp32", 16), ("bf16", 18), ("fp16", 18)])
def test_each_weight_takes_the_bytes_of_mixed_precision(dtype: str, per_weight: int) -> None:
    training = trainer(TIED_LLAMA, dtype)
    training.step()
    counters = 4 * len(training.weights)  # AdamW counts the steps of each tensor
    assert training.state_bytes == per_weight * training.parameters + counters


def test_gradients_in_the_training_dtype_are_let_go_of_at_once() -> None:
    training = trainer(GPT, "bf16")
    training.backward(training.forward())
    assert [weight.grad for weight in (*training.weights, training.table)] == [None] * (len(training.weights) + 1)
    assert all(master.grad.dtype == torch.float32 and bool(master.grad.any()) for master in training.masters)


def test_both_uses_of_a_tied_table_are_in_its_gradient() -> None:
    training = trainer(GPT)
    training.backward(training.forward())
    found = training.masters[0].grad.clone()
    one = training.ends["tokens"].detach().clone().requires_grad_()
    training.ends["tokens"], training.table = one, one
    (wanted,) = torch.autograd.grad(training.forward(), one)
    torch.testing.assert_close(found, wanted)


def test_a_second_step_does_not_add_to_the_gradients_of_the_first() -> None:
    training = trainer(TIED_LLAMA)
    training.backward(training.forward())
    first = [master.grad.clone() for master in training.masters]
    training.backward(training.forward())
    for master, before in zip(training.masters, first, strict=True):
        torch.testing.assert_close(master.grad, before)


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.name)
def test_a_step_multiplies_exactly_what_the_scaling_model_counts(model: Transformer, recompute: str) -> None:
    """By torch's own counter, of which attention in full is two batched products."""

    def in_full(q, k, v):
        k, v = (each.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for each in (k, v))
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v

    known = as_trained(replace(model, vocab=384))
    training = Trainer(known, 2, "fp32", "cpu", in_full, recompute=recompute)
    with FlopCounterMode(display=False) as counter:
        training.step()
    per_token = hardware_flops_per_token(known, Plan(global_batch=2, recompute=recompute))
    assert counter.get_total_flops() == 2 * known.seq_len * per_token


@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.name)
def test_recomputed_layers_have_the_same_gradients(model: Transformer) -> None:
    plain, again = trainer(model), trainer(model, recompute="full")
    for training in (plain, again):
        training.backward(training.forward())
    for one, other in zip(plain.masters, again.masters, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_the_scale_of_fp16_is_taken_out_again() -> None:
    wide, narrow = trainer(LLAMA), trainer(LLAMA, "fp16")
    for training in (wide, narrow):
        training.backward(training.forward())
    ratio = narrow.masters[0].grad.norm() / wide.masters[0].grad.norm()
    assert float(ratio) == pytest.approx(FP16_LOSS_SCALE, rel=0.1)
    narrow.update()
    assert float(narrow.masters[0].grad.norm()) < 1.01  # clipped to a norm of 1 over all weights


def test_the_update_is_adamw_on_clipped_gradients() -> None:
    training = trainer(GPT, "bf16")
    before = [master.clone() for master in training.masters]
    training.backward(training.forward())
    gradients = [master.grad.clone() for master in training.masters]
    norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
    clipped = [gradient * min(1.0, 1.0 / (float(norm) + 1e-6)) for gradient in gradients]
    training.update()
    for master, start, gradient, weight in zip(training.masters, before, clipped, training.weights, strict=True):
        # The first step of Adam: both moments are corrected to the gradient and its square.
        wanted = start * (1 - 1e-4 * 0.1) - 1e-4 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(master, wanted, rtol=1e-4, atol=1e-6)
        assert torch.equal(weight, master.bfloat16())


def test_a_layer_of_gpt_is_torchs_own_encoder_layer_with_a_causal_mask() -> None:
    training = trainer(GPT)
    weights = training.layers[0]
    theirs = torch.nn.TransformerEncoderLayer(
        32, 4, 64, dropout=0.0, activation=lambda x: torch.nn.functional.gelu(x, approximate="tanh"), batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_weight": "qkv.weight", "self_attn.in_proj_bias": "qkv.bias", "self_attn.out_proj.weight": "out.weight",
        "self_attn.out_proj.bias": "out.bias", "linear1.weight": "up.weight", "linear1.bias": "up.bias", "linear2.weight": "down.weight",
        "linear2.bias": "down.bias", "norm1.weight": "norm_1.weight", "norm1.bias": "norm_1.bias", "norm2.weight": "norm_2.weight",
        "norm2.bias": "norm_2.bias",
    }  # fmt: skip
    with torch.no_grad():
        for weight in weights.values():
            weight.add_(0.1 * torch.randn(weight.shape))
        theirs.load_state_dict({theirs_name: weights[name] for theirs_name, name in names.items()})
        x = torch.randn(2, 16, 32)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(16)
        torch.testing.assert_close(make_layer(GPT, attention)(x, weights, None), theirs(x, src_mask=mask, is_causal=True))


def test_a_layer_of_llama_is_its_formulas_written_out() -> None:
    weights = {name: weight.detach() + 0.1 * torch.randn(weight.shape) for name, weight in trainer(LLAMA).layers[0].items()}
    x = torch.randn(1, 16, 32)

    def normed(x, weight):
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5) * weight

    def turned(vector, position):  # pairs (i, i + 4) of a head of 8, as complex numbers
        pairs = torch.complex(vector[:4], vector[4:]) * torch.polar(torch.ones(4), position * 10_000.0 ** -(torch.arange(4) / 4))
        return torch.cat((pairs.real, pairs.imag))

    h = normed(x, weights["norm_1.weight"])[0]
    q, k, v = (h @ weights["qkv.weight"].T).split((32, 16, 16), dim=1)
    context = torch.zeros(16, 32)
    for head in range(4):
        own, shared = slice(8 * head, 8 * head + 8), slice(8 * (head // 2), 8 * (head // 2) + 8)
        for here in range(16):
            query = turned(q[here, own], here)
            scores = torch.stack([query @ turned(k[there, shared], there) for there in range(here + 1)]) / math.sqrt(8)
            context[here, own] = scores.softmax(0) @ v[: here + 1, shared]
    x1 = x[0] + context @ weights["out.weight"].T
    gate, up = (normed(x1, weights["norm_2.weight"]) @ weights["up.weight"].T).split(64, dim=1)
    wanted = x1 + (gate * torch.sigmoid(gate) * up) @ weights["down.weight"].T
    found = make_layer(LLAMA, attention)(x, weights, rotation(LLAMA, torch.float32, "cpu"))
    torch.testing.assert_close(found[0], wanted, rtol=1e-4, atol=1e-5)


def test_attention_and_mlp_of_a_parallel_layer_read_the_same_norm() -> None:
    weights = {name: weight.detach().clone() for name, weight in trainer(PARALLEL).layers[0].items()}
    turn, x = rotation(PARALLEL, torch.float32, "cpu"), torch.randn(1, 16, 32)
    layer = make_layer(PARALLEL, attention)
    without = {name: torch.zeros_like(weight) for name, weight in weights.items() if name in ("out.weight", "down.weight")}
    attended = layer(x, {**weights, "down.weight": without["down.weight"]}, turn) - x
    mapped = layer(x, {**weights, "out.weight": without["out.weight"]}, turn) - x
    torch.testing.assert_close(layer(x, weights, turn), x + attended + mapped)


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_torch_compile_makes_one_graph_of_all_layers_and_one_of_the_loss(monkeypatch, recompute: str) -> None:
    """Without a compiler behind it, which would take a minute: what is captured, and that it computes the same."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    torch._dynamo.reset()
    counters.clear()
    model = replace(TIED_LLAMA, layers=4)
    plain, compiled = trainer(model), trainer(model, recompute=recompute, compiled=True)
    losses = [[float(training.step()) for _ in range(3)] for training in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert counters["stats"]["unique_graphs"] == 2
