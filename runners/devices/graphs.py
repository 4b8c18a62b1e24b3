"""A call captured once as a device graph and replayed with one request: what is left of it when the host is out of the way.

Through torch (CUDA and ROCm graphs) for torch and Triton kernels, through CuPy's stream capture for CuPy's. Run on an H200; ROCm has not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chipassay.kernels.arrays import Output, each
from chipassay.kernels.kernel import Call

GRAPH_KINDS = ("cuda", "rocm")
WARMUPS = 3
"""Calls before the capture, on the stream's side: libraries make workspaces and choose algorithms in the first ones, which a capture
forbids (PyTorch's notes on CUDA graphs)."""


class CaptureFailed(Exception):
    """The call does something that no graph can hold: it waits for the device, allocates, or asks the host."""


@dataclass(frozen=True)
class Replay:
    """The captured call; calling it replays the graph and returns the buffers that the capture wrote."""

    launch: Callable[[], Any]
    output: Output
    config: str | None
    captured: Call | None = None
    """What was captured: the graph reads the memory that this call owns (scales, workspaces, saved results of a forward pass) by address
    alone, so it must live as long."""

    def __call__(self) -> Output:
        self.launch()
        return self.output

    def spoil(self, unwritten: Output) -> None:
        """Overwrite the output buffers with what no right result can hold, so that a graph that captured nothing shows.

        ``unwritten``: arrays of such values (``Case.make_output``); an output of another shape gets NaN or zeros.
        """
        for mine, fresh in zip(each(self.output), each(unwritten), strict=False):
            if tuple(mine.shape) == tuple(fresh.shape):
                mine[...] = fresh
            else:
                mine[...] = math.nan if "float" in str(mine.dtype) else 0


def refuses_graph(kind: str, backend: str) -> str | None:
    """Why a call cannot be replayed as a graph here.

    >>> refuses_graph("cpu", "torch")
    'graphs are captured on CUDA and ROCm devices; on cpu there is only the call itself'
    """
    if kind not in GRAPH_KINDS:
        return f"graphs are captured on CUDA and ROCm devices; on {kind} there is only the call itself"
    if backend == "cupy" and kind != "cuda":
        return "CuPy captures graphs on CUDA only; use torch or triton"
    if backend not in ("torch", "triton", "cupy"):
        return f"{backend} has no graphs"
    return None


def captured(call: Call, backend: str) -> Replay:
    """``call`` as a graph. Raises CaptureFailed with the library's words, and what the call itself raises before anything is captured."""
    launch, output = (_by_cupy if backend == "cupy" else _by_torch)(call)
    return Replay(launch, output, getattr(call, "config", None), call)


def _failed(error: Exception) -> CaptureFailed:
    words = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CaptureFailed(f"the call cannot be captured as a graph: {words[:300]}")


def _by_torch(call: Call) -> tuple[Callable[[], Any], Output]:
    import torch

    current, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARMUPS):
            call()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads may go on as they do: torch's watchdog asks for events of collectives before, which would break a global capture.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = call()
    except Exception as error:  # the libraries raise types of their own for what a capture forbids
        # Where ending the capture fails too, torch leaves its stream current: all that follows would run there, CuPy's kernels elsewhere.
        torch.cuda.set_stream(current)
        raise _failed(error) from error
    return graph.replay, output


def _by_cupy(call: Call) -> tuple[Callable[[], Any], Output]:
    import cupy

    cupy.cuda.Device().synchronize()
    side = cupy.cuda.Stream(non_blocking=True)
    with side:
        for _ in range(WARMUPS):
            call()
        side.synchronize()
        side.begin_capture()
        try:
            try:
                output = call()
            finally:
                # A capture left open would refuse everything that follows.
                graph = side.end_capture()
        except Exception as error:  # as above
            raise _failed(error) from error
    return graph.launch, output
