"""The child that measures kernels: says what device it has, then answers one request per kernel and case."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

from .channel import Channel


def use_tuned_choices(chip_id: str, folder: Path | None, search: bool) -> None:
    """Take tuned choices from ``folder``, else from those that ship with chipassay, and keep new ones in ``folder``."""
    import chipassay.results
    from chipassay.kernels import tuning

    name = f"{chip_id}.json"
    shipped = [Path(place) / "tuned" / name for place in chipassay.results.__path__]
    tuning.use(tuning.Choices.of(folder / name if folder else None, shipped, search))


def main(device_kind: str | None, tuned: Path | None, search: bool) -> None:
    """Serve until the parent closes the pipe."""
    channel = Channel()
    from ..devices.discover import discover
    from ..measure_kernel import KernelMeasurer

    device = discover(device_kind)
    use_tuned_choices(device.facts.chip_id, tuned, search)
    measurer = KernelMeasurer(device)
    channel.answer({"facts": device.facts.to_dict(), "backends": measurer.backend_reasons()})
    for request in channel.requests():
        if "questions" in request:
            channel.answer({"answers": [measurer.runnable(**question) for question in request["questions"]]})
            continue
        answer: dict[str, Any] = {"row": measurer.measure(**request)}
        answer["device_lost"] = measurer.device_lost()
        channel.answer(answer)
        # What is alive between two rows stays: modules, caches, compiled kernels. Left out of the collection after each row, which looks
        # at hundreds of thousands of objects otherwise, at 0.2 s a row.
        gc.freeze()


if __name__ == "__main__":
    kind, folder, searching = sys.argv[1:]
    main(kind or None, Path(folder) if folder else None, searching == "search")
