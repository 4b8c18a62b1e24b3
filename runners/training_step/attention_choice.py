"""Which of torch's attention kernels this chip trains fastest with, and which of the scaling model's generations that is.

The profile's attention is the best library's, so the training here takes the fastest that torch has; the choice is told with the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chipassay.kernels.kernel import Refused
from chipassay.kernels.torch_settings import set_arithmetic, set_sdpa_backend, torch_as_it_was
from chipassay.kernels.torch_trial import ask
from chipassay.results.errors import NothingMeasured
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import Attention

from ..timing.engine import Timer
from ..timing.statistics import median
from .trainer import TORCH_DTYPES

FUSED = ("cudnn", "flash")
SLOWER = ("efficient", "math")
"""Only where no fused one takes the case: they lose to it wherever both run."""
WARM_UP, TRIALS = 2, 5
HOPPER = (9, 0)


@dataclass(frozen=True)
class AttentionChoice:
    """One of torch's kernels for one model."""

    backend: str
    """``cudnn``, ``flash``, ``efficient`` or ``math``."""
    expanded: bool
    """Keys and values are copied to as many heads as the queries have, since the kernel knows no groups."""
    time_s: float
    """One call, forward and backward."""

    @property
    def name(self) -> str:
        return self.backend + (" with expanded heads" if self.expanded else "")

    def call(self, model: Transformer) -> Callable[[Any, Any, Any], Any]:
        """The attention of the model by this kernel, to be called within ``chosen``."""
        return _call(model, self.expanded)

    def generation(self, compute_capability: tuple[int, int] | None) -> Attention:
        """What a plan calls it. torch's own flash kernel is FlashAttention-2, which does not use what chips gained since the A100.

        >>> AttentionChoice("flash", False, 1e-3).generation((9, 0)), AttentionChoice("cudnn", False, 1e-3).generation((9, 0))
        ('flash2', 'flash')
        """
        if self.backend == "math":
            return "unfused"
        later = compute_capability is not None and compute_capability >= HOPPER
        return "flash2" if later and self.backend != "cudnn" else "flash"


@contextmanager
def chosen(choice: AttentionChoice, dtype: str) -> Iterator[None]:
    """Within this, torch's attention is the chosen kernel and its products are in just this dtype."""
    with torch_as_it_was():
        set_arithmetic(dtype)
        set_sdpa_backend(choice.backend)
        yield


def choose(model: Transformer, microbatch: int, dtype: str, device: str, timer: Timer) -> AttentionChoice:
    """The kernel whose call, forward and backward, is fastest for the model's heads and sequence.

    Raises NothingMeasured where torch has none that takes the case.
    """
    grouped = model.kv_heads != model.heads
    reasons = []
    for backends in (FUSED, SLOWER):
        found = []
        for backend in backends:
            for expanded in (False, True) if grouped else (False,):
                try:
                    time_s = _time_s(model, microbatch, dtype, device, timer, backend, expanded)
                except (Refused, RuntimeError, TypeError) as error:
                    if "out of memory" in str(error):
                        raise
                    # Words and types of a refusal differ by backend and release; they are told if nothing else works.
                    reasons.append(f"{backend}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
                    continue
                found.append(AttentionChoice(backend, expanded, time_s))
                break  # copies of keys and values never help a kernel that knows groups
        if found:
            return min(found, key=lambda choice: choice.time_s)
    raise NothingMeasured(f"no attention of this torch takes model {model.name} in {dtype}: {'; '.join(reasons)}")


def _call(model: Transformer, expanded: bool) -> Callable[[Any, Any, Any], Any]:
    from torch.nn.functional import scaled_dot_product_attention

    grouped, times = model.kv_heads != model.heads, model.heads // model.kv_heads

    def attention(q: Any, k: Any, v: Any) -> Any:
        if expanded:
            k, v = k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1)
        elif grouped:
            return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return scaled_dot_product_attention(q, k, v, is_causal=True)

    return attention


def _time_s(model: Transformer, microbatch: int, dtype: str, device: str, timer: Timer, backend: str, expanded: bool) -> float:
    """Seconds of one call, forward and backward, on queries, keys and values beside each other, as a layer's product leaves them."""
    import torch

    attention, torch_dtype = _call(model, expanded), getattr(torch, TORCH_DTYPES[dtype])

    heads, kv_heads = model.heads, model.kv_heads

    def random(heads: int) -> Any:
        return torch.randn((microbatch, model.seq_len, heads, model.head_dim), dtype=torch_dtype, device=device)

    packed = random(heads + 2 * kv_heads).requires_grad_()
    q, k, v = (part.transpose(1, 2) for part in packed.split((heads, kv_heads, kv_heads), dim=2))
    gradient = random(heads).transpose(1, 2)

    def both() -> Any:
        return torch.autograd.grad(attention(q, k, v), (q, k, v), gradient)

    with torch_as_it_was():
        set_arithmetic(dtype)
        set_sdpa_backend(backend)
        ask(both)
        timer.time_each(both, WARM_UP)
        return median(timer.time_each(both, TRIALS))
