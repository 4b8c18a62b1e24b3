"""AdamW as torch does it: one fused kernel, and foreach, a row of elementary operations over all parameters at once.

Fused is what ``torch.optim.AdamW(fused=True)`` calls. It keeps the step's number in a tensor on the device; here it stays as it is.
"""

from __future__ import annotations

from ..arrays import Array, Arrays, Output
from ..kernel import Call, Target, kernel
from ..memory.refusing import not_torch
from .case import BETA1, BETA2, EPSILON, LEARNING_RATE, STEP, WEIGHT_DECAY, AdamCase


def refuses(case: AdamCase, target: Target) -> str | None:
    if case.dtype in ("fp16", "bf16"):
        return f"torch's AdamW wants parameters and moments of one dtype, not {case.dtype} beside fp32; use fp32 master parameters"
    return not_torch(case, target)


def fused_refuses(case: AdamCase, target: Target) -> str | None:
    if target.kind not in ("cpu", "cuda", "rocm", "xpu", "mps"):
        return f"torch has no fused AdamW for {target.kind}"
    return refuses(case, target)


@kernel("adam", "torch", "torch.adamw.fused", fused_refuses)
def fused(case: AdamCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    import torch

    case.begin(inputs, output)
    p, m, v = output
    step = torch.full((), float(STEP), dtype=torch.float32, device=p.device)

    def run() -> Output:
        torch._fused_adamw_(
            [p], [inputs[1]], [m], [v], [], [step],
            lr=LEARNING_RATE, beta1=BETA1, beta2=BETA2, weight_decay=WEIGHT_DECAY, eps=EPSILON, amsgrad=False, maximize=False,
        )  # fmt: skip
        return output

    return run


@kernel("adam", "torch", "torch.adamw.foreach", refuses)
def foreach(case: AdamCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    import torch
    from torch.optim.adamw import adamw

    case.begin(inputs, output)
    p, m, v = output
    step = torch.zeros((), dtype=torch.float32)  # on the host, as the optimiser keeps it

    def run() -> Output:
        step.fill_(STEP - 1)
        with torch.no_grad():
            adamw(
                [p], [inputs[1]], [m], [v], [], [step], foreach=True, amsgrad=False, beta1=BETA1, beta2=BETA2,
                lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, eps=EPSILON, maximize=False,
            )  # fmt: skip
        return output

    return run
