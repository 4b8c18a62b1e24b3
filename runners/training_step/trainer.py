"""Training of one model on one batch of random tokens, as Megatron-LM does it in 16 bit: what is in memory, and the three parts of a step.

Weights, activations and gradients as they are made are in the training dtype. Each gradient is copied at once into an fp32 one that stays
(4 bytes a weight), and let go of. AdamW, one fused kernel, updates fp32 weights by fp32 moments (12 bytes a weight), which are then copied
into those of the training dtype. Gradients are clipped by their norm. In fp32 and tf32 the weights are their own fp32 copy. In fp16 the
loss is scaled by a fixed number. Nothing runs under autocast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from chipassay.scaling.models import Transformer

from .decoder import Shapes, Tensor, make_head, make_layer, rotation, shapes

VOCAB_MULTIPLE = 128
"""Rows of the token table are padded to a multiple of this, as Megatron-LM does: products of odd widths get no tensor cores."""
WEIGHT_DEVIATION = 0.02
"""Of the normal distribution that matrices begin with (GPT-2)."""
LOGIT_DEVIATION = 0.5
"""At most, of the logits at the start: the first loss is then ln(vocab) + 0.5**2 / 2."""
CLIP_NORM = 1.0
LEARNING_RATE = 1e-4
"""Small enough for models of billions of weights from the first step on, without a warm-up; the loss of one batch falls all the same."""
FP16_LOSS_SCALE = 1024.0
TORCH_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "tf32": "float32"}


def as_trained(model: Transformer) -> Transformer:
    """The model as it is trained here, and as it must be predicted: vocabulary padded, no dropout (today's models have none)."""
    return replace(model, dropout=False, vocab_multiple=max(VOCAB_MULTIPLE, model.vocab_multiple))


class Trainer:
    """One model with its optimizer on one device, and one batch that it is trained on again and again."""

    def __init__(
        self,
        model: Transformer,
        microbatch: int,
        dtype: str,
        device: str,
        attention: Callable[[Tensor, Tensor, Tensor], Tensor],
        *,
        recompute: str = "none",
        compiled: bool = False,
        learning_rate: float = LEARNING_RATE,
        seed: int = 1,
    ) -> None:
        """``model``: as ``as_trained`` makes it; ``dtype``: one of TORCH_DTYPES. Raises what torch raises where memory is short."""
        import torch

        self.model = model
        self._dtype, self._device = getattr(torch, TORCH_DTYPES[dtype]), device
        self._recompute = recompute == "full"
        self._scale = FP16_LOSS_SCALE if dtype == "fp16" else 1.0
        self._random = torch.Generator(device=device).manual_seed(seed)
        self.layers, self.ends = self._make_weights(shapes(model))
        # A tied table is two leaves over one storage: each use hands in its gradient as soon as it has it, neither waits for the other.
        self.table = self.ends["tokens"].detach().requires_grad_() if model.tied_embeddings else self.ends["head"]
        self._turn = rotation(model, self._dtype, device)
        self._layer, self._head = make_layer(model, attention), make_head(model)
        if compiled:
            self._layer, self._head = (torch.compile(function, dynamic=False) for function in (self._layer, self._head))
        weights = [*self.ends.values(), *(weight for layer in self.layers for weight in layer.values())]
        self.weights = weights
        self.masters = [weight.detach() if weight.dtype == torch.float32 else weight.detach().float() for weight in weights]
        for weight, master in zip(weights, self.masters, strict=True):
            master.grad = torch.zeros_like(master)
            second_use = model.tied_embeddings and weight is self.ends["tokens"]
            weight.register_post_accumulate_grad_hook(self._kept_in(master.grad, add=second_use))
        if model.tied_embeddings:
            # The head's gradient comes first in a backward pass: it overwrites, the look-up's is added.
            self.table.register_post_accumulate_grad_hook(self._kept_in(self.masters[0].grad, add=False))
        fused = {"fused": True} if device.partition(":")[0] in ("cuda", "cpu") else {"foreach": True}
        self.optimizer = torch.optim.AdamW(self.masters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1, **fused)
        tokens = torch.randint(model.vocab, (microbatch, model.seq_len + 1), generator=self._random, device=device)
        self.inputs, self.targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    @property
    def parameters(self) -> int:
        """Weights, padding of the vocabulary included."""
        return sum(weight.numel() for weight in self.weights)

    @property
    def state_bytes(self) -> int:
        """Bytes of weights, gradients and optimizer state; the moments are there after the first step."""
        held = {}
        for tensor in (*self.weights, *self.masters, *(master.grad for master in self.masters)):
            held[tensor.data_ptr()] = tensor.nbytes
        moments = (value for state in self.optimizer.state.values() for value in state.values() if hasattr(value, "nbytes"))
        return sum(held.values()) + sum(moment.nbytes for moment in moments)

    def forward(self) -> Tensor:
        """The loss of the batch, with its graph."""
        from torch.nn.functional import embedding
        from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

        x = embedding(self.inputs, self.ends["tokens"])
        if "positions" in self.ends:
            x = x + self.ends["positions"]
        for weights in self.layers:
            if self._recompute:
                with set_checkpoint_early_stop(False):  # else the last product is left out: Megatron-LM runs the whole layer again
                    x = checkpoint(self._layer, x, weights, self._turn, use_reentrant=False, preserve_rng_state=False)
            else:
                x = self._layer(x, weights, self._turn)
        return self._head(x, self.ends, self.table, self.targets)

    def backward(self, loss: Tensor) -> None:
        """Gradients of all weights, into the fp32 ones."""
        (loss * self._scale if self._scale != 1.0 else loss).backward()

    def update(self) -> None:
        """Clip, update, and copy the new weights into the training dtype."""
        import torch

        if self._scale != 1.0:
            torch._foreach_mul_([master.grad for master in self.masters], 1.0 / self._scale)
        torch.nn.utils.clip_grad_norm_(self.masters, CLIP_NORM)
        self.optimizer.step()
        if self._dtype != torch.float32:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, self.masters)

    def step(self) -> Tensor:
        """One training step; the loss before it, still on the device."""
        loss = self.forward()
        self.backward(loss)
        self.update()
        return loss.detach()

    @staticmethod
    def _kept_in(total: Tensor, add: bool) -> Callable[[Tensor], None]:
        def keep(weight: Tensor) -> None:
            if add:
                total.add_(weight.grad)
            else:
                total.copy_(weight.grad)
            weight.grad = None

        return keep

    def _make_weights(self, found: Shapes) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        residual = WEIGHT_DEVIATION / math.sqrt(2 * self.model.layers)
        table = min(WEIGHT_DEVIATION, LOGIT_DEVIATION / math.sqrt(self.model.hidden))

        def deviation(name: str) -> float:
            if name in ("out.weight", "down.weight"):
                return residual  # so that the sum over the layers does not grow with their number (GPT-2)
            return table if name in ("tokens", "head") else WEIGHT_DEVIATION

        def made(name: str, shape: tuple[int, ...]) -> Tensor:
            import torch

            weight = torch.empty(shape, dtype=self._dtype, device=self._device)
            if name.endswith(".bias"):
                weight.zero_()
            elif len(shape) == 1:
                weight.fill_(1.0)
            else:
                weight.normal_(0.0, deviation(name), generator=self._random)
            return weight.requires_grad_()

        layers = [{name: made(name, shape) for name, shape in found.layer.items()} for _ in range(self.model.layers)]
        return layers, {name: made(name, shape) for name, shape in found.ends.items()}
