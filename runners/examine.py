"""A look at the machine without measuring it: in a child process, so that a broken driver cannot take the command along."""

from __future__ import annotations

from chipassay.results.errors import NothingMeasured

from .crew import START_TIMEOUT_S
from .devices.facts import DeviceFacts
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
    """What carries collectives here, with its library, -> why it cannot be measured (None: it can)."""
    from chipassay.collectives.transport import transports

    alone = "one chip only: a collective needs at least 2" if facts.kind != "cpu" and facts.count < 2 else None
    reasons: dict[str, str | None] = {}
    for transport in transports().values():
        carrier = transport.backend(facts.kind)
        if carrier is not None:
            reasons[f"{carrier} by {transport.name}"] = transport.missing(facts.kind) or alone
    return reasons or {"any": f"collectives over {facts.kind} devices are not measured yet"}
