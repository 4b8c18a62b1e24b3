"""Gradients of one torch result, computed again and again on whatever stream is current.

torch's engine runs each node of the backward graph on the stream of its forward operation, and hands the work to another thread: neither
is wanted in a timed call, and a capture into a CUDA graph fails where the forward pass ran on the default stream. So the nodes are called
here, in the same order and with the same arguments. On the CPU the results are the engine's own (tested); run on an H200 too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arrays import Array
from ..kernel import Call


def gradients_call(result: Array, leaves: Sequence[Array], d_result: Array) -> Call:
    """A call that returns the gradients of ``result`` with respect to the leaves, given that of something with respect to ``result``."""
    import torch

    root = result.grad_fn
    order = _topological(root)

    def run() -> tuple[Array, ...]:
        found: list[Array] = [None] * len(leaves)
        waiting = {node: [None] * max(1, len(node._input_metadata)) for node in order}
        waiting[root][result.output_nr] = d_result
        with torch.no_grad():
            for node in order:
                outputs = node(*waiting.pop(node))
                for (target, slot), gradient in zip(
                    node.next_functions, outputs if isinstance(outputs, tuple) else (outputs,), strict=False
                ):
                    if target is None or gradient is None:
                        continue
                    if hasattr(target, "variable"):
                        index = next(i for i, leaf in enumerate(leaves) if leaf is target.variable)
                        found[index] = gradient if found[index] is None else found[index] + gradient
                    else:
                        before = waiting[target][slot]
                        waiting[target][slot] = gradient if before is None else before + gradient
        return tuple(found)

    return run


def _topological(root: Any) -> list[Any]:
    """The nodes that the root leads to, each before those that it gives gradients to; leaves are left out."""
    order: list[Any] = []
    seen: set[Any] = set()
    pending: list[tuple[Any, bool]] = [(root, False)]
    while pending:
        node, finished = pending.pop()
        if finished:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            pending.append((node, True))
            pending += [(target, False) for target, _ in node.next_functions if target is not None and not hasattr(target, "variable")]
    return order[::-1]
