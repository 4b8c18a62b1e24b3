"""The child that measures kernels: says what device it has, then answers one request per kernel and case."""

from __future__ import annotations

import sys
from typing import Any

from .channel import Channel


def main(device_kind: str | None) -> None:
    """Serve until the parent closes the pipe."""
    channel = Channel()
    from ..devices.discover import discover
    from ..measure_kernel import KernelMeasurer

    device = discover(device_kind)
    measurer = KernelMeasurer(device)
    channel.answer({"facts": device.facts.to_dict(), "backends": measurer.backend_reasons()})
    for request in channel.requests():
        if "questions" in request:
            channel.answer({"answers": [measurer.runnable(**question) for question in request["questions"]]})
            continue
        answer: dict[str, Any] = {"row": measurer.measure(**request)}
        answer["device_lost"] = measurer.device_lost()
        channel.answer(answer)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
