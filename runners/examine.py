"""A look at the machine without measuring it: in a child process, so that a broken driver cannot take the command along."""

from __future__ import annotations

from chipassay.results.errors import NothingMeasured

from .devices.facts import DeviceFacts
from .run import START_TIMEOUT_S
from .workers.client import WorkerDied, WorkerTimeout, start_worker


def examine(device_kind: str | None = None) -> tuple[DeviceFacts, dict[str, str | None]]:
    """The device that would be measured, and backend -> why it cannot run (None: it can)."""
    workers = start_worker(device_kind)
    try:
        ready = workers.ask(None, START_TIMEOUT_S)
    except (WorkerDied, WorkerTimeout) as error:
        raise NothingMeasured(f"the device could not be opened: {error}") from error
    finally:
        workers.stop()
    return DeviceFacts.from_dict(ready["facts"]), ready["backends"]


def collective_reasons(facts: DeviceFacts) -> dict[str, str | None]:
    """Transport -> why a collective cannot be measured over it here (None: it can)."""
    from importlib.util import find_spec

    torch = None if find_spec("torch") else "PyTorch is not installed; pip install 'chipassay[torch]'"
    if facts.kind == "cpu":
        return {"gloo": torch, "nccl": "NCCL joins NVIDIA GPUs, and none is seen here"}
    name = "rccl" if facts.kind == "rocm" else "nccl"
    alone = "one chip only: a collective needs at least 2" if facts.count < 2 else None
    return {name: torch or alone, "gloo": "gloo is the CPU's transport; measure it with --device cpu"}
