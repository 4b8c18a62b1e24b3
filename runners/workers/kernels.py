"""The child that measures kernels: says what device it has, then answers one request per kernel and case."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from .channel import Channel

TUNING = {
    "search": {"searching": True},
    "as it is": {"searching": False},
    "compile": {"searching": True, "compiling": True},
}
"""What becomes of choices that are not known: searched, the best prediction that runs, or only compiled for a search to come."""


def use_tuned_choices(chip_id: str, folder: Path | None, how: str) -> str | None:
    """Take tuned choices from ``folder``, else from those that ship with chipassay, and keep new ones in ``folder``.

    What is wrong with the files, if anything.
    """
    import chipassay.results
    from chipassay.kernels import tuning

    name = f"{chip_id}.json"
    shipped = [Path(place) / "tuned" / name for place in chipassay.results.__path__]
    choices = tuning.Choices.of(folder / name if folder else None, shipped)
    for setting, value in TUNING[how].items():
        setattr(choices, setting, value)
    tuning.use(choices)
    return choices.problem


def main(device_kind: str | None, tuned: Path | None, how: str) -> None:
    """Serve until the parent closes the pipe."""
    channel = Channel()
    from ..devices.discover import discover
    from ..measure_kernel import KernelMeasurer

    device = discover(device_kind)
    problem = use_tuned_choices(device.facts.chip_id, tuned, how)
    if problem is not None:
        device = replace(device, facts=replace(device.facts, notes=(*device.facts.notes, problem)))
    measurer = KernelMeasurer(device)
    channel.answer({"facts": device.facts.to_dict(), "backends": measurer.backend_reasons()})
    for request in channel.requests():
        if "questions" in request:
            channel.answer({"answers": [measurer.runnable(**question) for question in request["questions"]]})
            continue
        if "compile" in request:
            measurer.compile(**request["compile"])
            channel.answer({})
            continue
        answer: dict[str, Any] = {"row": measurer.measure(**request)}
        answer["device_lost"] = measurer.device_lost()
        channel.answer(answer)
        # What is alive between two rows stays: modules, caches, compiled kernels. Left out of the collection after each row, which looks
        # at hundreds of thousands of objects otherwise, at 0.2 s a row.
        gc.freeze()


if __name__ == "__main__":
    kind, folder, how = sys.argv[1:]
    main(kind or None, Path(folder) if folder else None, how)
