"""Who measures for a run: children on this machine, or the ranks of a job that a launcher started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from chipassay.results.errors import InputError, NothingMeasured

from .budget import PATIENCE_S
from .collective.tasks import Job
from .devices.facts import DeviceFacts
from .options import RESULTS, RunOptions
from .workers.client import WorkerDied, Workers, WorkerTimeout, start_ranks, start_worker

if TYPE_CHECKING:
    from .launch.fleet import Fleet

START_TIMEOUT_S = 180.0
"""Importing torch from a cold network disk takes up to minutes on rented machines."""
NO_MPIRUN = "MPI is begun by the processes that mpirun starts, not by local ranks or torchrun's: mpirun -n 2 chipassay run"
MPI_ONCE = "a rank ended after it had begun MPI, which starts once per launch only; go on with --resume"


class Asked(Protocol):
    """What answers requests, and is gone after WorkerDied or WorkerTimeout."""

    def ask(self, request: Mapping[str, Any] | None, timeout_s: float) -> dict[str, Any]: ...


class Crew(Protocol):
    """What a run knows of who measures for it."""

    facts: DeviceFacts
    backends: Mapping[str, str | None]
    """Of kernels: why each cannot be used, None where it can."""
    kernels: bool
    """Whether it measures kernels too."""

    def job(self) -> Job:
        """The ranks that there are."""

    def refusal(self, transport: str) -> str | None:
        """Why this transport cannot be used between these ranks; None as far as is known."""

    def kernel_answers(self, questions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Which kernels can run each case."""

    def workers_for(self, ranks: int) -> Asked:
        """Those that measure on so many ranks, started where they are not. Raises WorkerDied, WorkerTimeout, NothingMeasured."""

    def forget(self) -> None:
        """Those asked last are gone."""

    def again(self) -> None:
        """Look with fresh processes whether the chip is still there. Raises NothingMeasured where it is not."""

    def over(self) -> str | None:
        """Why nothing more can be measured; None: it can."""

    def stop(self, code: int, words: str | None) -> None:
        """Let all processes end."""


class LocalCrew:
    """Children of this process. The first one finds the device."""

    kernels = True

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._workers: Workers | None = None
        self._ranks = 0
        self.facts, self.backends = self._start_kernels()

    def job(self) -> Job:
        """All chips here; on a CPU 2 ranks, which stand for nothing but themselves."""
        facts, asked = self.facts, self._options.ranks
        if asked is not None and facts.kind != "cpu" and asked > facts.count and not self._options.share_gpu:
            raise InputError(f"--ranks {asked} needs as many GPUs; there are {facts.count}")
        return Job(facts.kind, (0,) * (asked or (2 if facts.kind == "cpu" else facts.count)), self.backends["torch"])

    def refusal(self, transport: str) -> str | None:
        return NO_MPIRUN if transport == "mpi4py" else None

    def kernel_answers(self, questions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return self.workers_for(1).ask({"questions": questions}, START_TIMEOUT_S)["answers"]

    def workers_for(self, ranks: int) -> Workers:
        if self._workers is not None and self._ranks == ranks:
            return self._workers
        if self._workers is not None:
            self._workers.stop()
            self._workers = None
        if ranks == 1:
            found, _ = self._start_kernels()
            if found.chip_id != self.facts.chip_id:
                raise NothingMeasured(f"a fresh process finds {found.name} instead")
        else:
            self._workers, self._ranks = start_ranks(ranks, self.facts.kind, PATIENCE_S, share_gpu=self._options.share_gpu), ranks
            self._workers.ask(None, START_TIMEOUT_S)
        assert self._workers is not None
        return self._workers

    def forget(self) -> None:
        self._workers = None

    def again(self) -> None:
        self.stop()
        self._workers = None
        self.workers_for(1)

    def over(self) -> str | None:
        return None

    def stop(self, code: int = 0, words: str | None = None) -> None:
        if self._workers is not None:
            self._workers.stop()

    def compiler(self) -> Workers:
        """One more child, which compiles kernels ahead."""
        return self._start("compile" if self._options.tune else "as it is")

    def _start(self, tuning: str) -> Workers:
        folder = self._options.out.parent if self._options.out else RESULTS
        return start_worker(self._options.device_kind, folder / "tuned", tuning, self._options.device_environment)

    def _start_kernels(self) -> tuple[DeviceFacts, Mapping[str, str | None]]:
        workers = self._start("search" if self._options.tune else "as it is")
        try:
            ready = workers.ask(None, START_TIMEOUT_S)
        except (WorkerDied, WorkerTimeout) as error:
            raise NothingMeasured(f"no device could be opened: {error}; see `chipassay doctor`") from error
        except KeyboardInterrupt:
            workers.stop()
            raise
        self._workers, self._ranks = workers, 1
        return DeviceFacts.from_dict(ready["facts"]), ready["backends"]


class LaunchedCrew:
    """The ranks of a launched job, led from here."""

    kernels = False
    backends: Mapping[str, str | None] = {}

    def __init__(self, fleet: Fleet, with_mpi: bool) -> None:
        """``fleet``: gathered and started once; ``with_mpi``: its launcher started the processes for MPI."""
        self._fleet, self._with_mpi = fleet, with_mpi
        self._mpi_generation: int | None = None
        self.facts = DeviceFacts.from_dict(fleet.hellos[0]["facts"])

    def job(self) -> Job:
        nodes = self._fleet.nodes
        order = list(dict.fromkeys(nodes))
        return Job(self.facts.kind, tuple(order.index(node) for node in nodes))

    def refusal(self, transport: str) -> str | None:
        if transport == "mpi4py" and not self._with_mpi:
            return NO_MPIRUN
        return self._fleet.missing().get(transport)

    def kernel_answers(self, questions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return []

    def workers_for(self, ranks: int) -> Asked:
        if not self._fleet.running:
            self._fleet.start(START_TIMEOUT_S)
        return self

    def ask(self, request: Mapping[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        """As the fleet does, except that MPI is not begun twice."""
        if request is not None and request.get("transport") == "mpi4py":
            if self._mpi_generation not in (None, self._fleet.generation):
                return {"row": {"status": "skipped", "reason": MPI_ONCE}, "device_lost": None}
            self._mpi_generation = self._fleet.generation
        return self._fleet.ask(request, timeout_s)

    def forget(self) -> None:
        """The fleet knows."""

    def again(self) -> None:
        """A launched job's fleet starts its ranks anew for the next row."""

    def over(self) -> str | None:
        return self._fleet.lost_words() or None

    def stop(self, code: int = 0, words: str | None = None) -> None:
        self._fleet.stop(code, words)
