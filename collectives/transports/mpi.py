"""MPI between CPUs, through mpi4py's buffer verbs. Whatever is only moved is moved as bytes.

Verbs and their meaning in place: MPI 4.1, chapter 6.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

from ..transport import Ask, Opened, Site, Transport, register
from .own_group import OwnGroup
from .prepared import Prepared, overlap

BACKENDS = {"cpu": "mpi", "cuda": "mpi", "rocm": "mpi"}

LAUNCHERS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
"""What the launchers of Open MPI, of MPICH and its kin, and Slurm with PMIx set for every rank."""

SUMMED = {"float64": "DOUBLE", "float32": "FLOAT", "int8": "INT8_T"}
"""torch's dtypes -> MPI's. MPI has no 16-bit or 8-bit floats that every library must know (MPI 4.1, section 3.2.2)."""
SUMS = ("fp64", "fp32", "int8")

Description = list[Any]
"""Memory, counts where they differ between ranks, and MPI type, as mpi4py takes them."""


class MpiGroup:
    """A communicator of MPI as a communicator."""

    def __init__(self, mpi: Any, communicator: Any) -> None:
        self._mpi, self._communicator = mpi, communicator
        self.rank, self.ranks = communicator.Get_rank(), communicator.Get_size()
        self._summed = Prepared(self._sum)
        self._moved = Prepared(self._move)
        self._exchanged = Prepared(self._exchange)

    def all_reduce(self, send: Any, receive: Any) -> None:
        self._communicator.Allreduce(*self._summed(send, receive))

    def all_gather(self, send: Any, receive: Any) -> None:
        self._communicator.Allgather(*self._moved(send, receive))

    def reduce_scatter(self, send: Any, receive: Any) -> None:
        self._communicator.Reduce_scatter_block(*self._summed(send, receive))

    def broadcast(self, send: Any, receive: Any) -> None:
        self._communicator.Bcast(self._moved(send, receive)[1])

    def reduce(self, send: Any, receive: Any) -> None:
        self._communicator.Reduce(*self._summed(send, receive))

    def gather(self, send: Any, receive: Any) -> None:
        self._communicator.Gather(*self._moved(send, receive))

    def scatter(self, send: Any, receive: Any) -> None:
        # The other way round than everywhere else: the root's receive buffer is what lies in the larger one.
        received, sent = self._moved(receive, send)
        self._communicator.Scatter(sent, received)

    def all_to_all(self, send: Any, receive: Any, sent: Sequence[int], received: Sequence[int]) -> None:
        if len({*sent, *received}) == 1:
            self._communicator.Alltoall(*self._moved(send, receive))
        else:
            self._communicator.Alltoallv(*self._exchanged(send, receive, tuple(sent), tuple(received)))

    def send_receive(self, send: Any, to: int, receive: Any, source: int) -> None:
        sent, received = self._moved(send, receive)
        self._communicator.Sendrecv(sent, to, recvbuf=received, source=source)

    def barrier(self) -> None:
        self._communicator.Barrier()

    def close(self) -> None:
        if self._communicator != self._mpi.COMM_WORLD:
            self._communicator.Free()

    def _sum(self, send: Any, receive: Any) -> tuple[Any, Any]:
        kind = getattr(self._mpi, SUMMED[str(send.dtype).removeprefix("torch.")])
        return self._described(send, receive, kind)

    def _move(self, send: Any, receive: Any) -> tuple[Any, Any]:
        return self._described(send, receive, self._mpi.BYTE)

    def _described(self, smaller: Any, larger: Any, kind: Any) -> tuple[Any, Any]:
        """Both buffers for a call; the one that lies within the other is not named, as MPI asks, nor what has no elements."""
        one, other = ([self._memory(buffer), kind] if buffer.numel() else None for buffer in (smaller, larger))
        return self._mpi.IN_PLACE if overlap(smaller, larger) else one, other

    def _exchange(self, send: Any, receive: Any, sent: Sequence[int], received: Sequence[int]) -> tuple[Description, Description]:
        def described(buffer: Any, counts: Sequence[int]) -> Description:
            return [self._memory(buffer), [count * buffer.element_size() for count in counts], self._mpi.BYTE]

        return described(send, sent), described(receive, received)

    def _memory(self, buffer: Any) -> Any:
        return self._mpi.buffer.fromaddress(buffer.data_ptr(), buffer.numel() * buffer.element_size())


class Mpi(OwnGroup):
    """MPI on this rank. Being imported, mpi4py calls MPI_Init, and MPI_Finalize when the process ends."""

    def __init__(self, site: Site) -> None:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise RuntimeError(
                f"mpi4py finds no MPI library ({error}): install chipassay[mpi], or mpi4py built for this machine's"
            ) from error
        world = MPI.COMM_WORLD
        if (world.Get_rank(), world.Get_size()) != (site.rank, site.ranks):
            raise RuntimeError(
                f"MPI counts this process as rank {world.Get_rank()} of {world.Get_size()}, chipassay as rank {site.rank} of {site.ranks}: "
                "start it with the mpirun of the MPI library that mpi4py uses"
            )
        super().__init__(site)
        self._mpi, self._world = MPI, world

    def _made(self, members: tuple[int, ...]) -> MpiGroup:
        if len(members) == self._site.ranks:
            # What a program with one group uses. Between two ranks MPICH 5.0.2 carries 4 MiB in 544 us there, in 573 in a group made later.
            return MpiGroup(self._mpi, self._world)
        # Only the members take part in this.
        return MpiGroup(self._mpi, self._world.Create_group(self._world.Get_group().Incl(list(members))))

    def versions(self) -> dict[str, str]:
        import mpi4py

        name, version = self._mpi.get_vendor()
        return {"mpi4py": mpi4py.__version__, name.lower().replace(" ", "_"): ".".join(map(str, version))}


def _missing(device_kind: str) -> str | None:
    if device_kind != "cpu":
        return (
            "MPI is measured between CPUs only: an MPI library that was not built for GPU memory crashes on it, and none says so beforehand"
        )
    for package in ("torch", "mpi4py"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: install chipassay[{'mpi' if package == 'mpi4py' else package}]"
    if not any(name in os.environ for name in LAUNCHERS):
        return "no MPI launcher started this process: run it as `mpirun -n 2 chipassay run ...`"
    return None


def _lacks(ask: Ask) -> str | None:
    if ask.reduces and ask.dtype not in SUMS:
        return f"MPI has no type that it could add {ask.dtype} up in"
    if ask.pattern == "broadcast" and not ask.in_place:
        return "MPI has broadcast in place only"
    if ask.pattern == "reduce_scatter" and ask.in_place:
        return "MPI's reduce-scatter in place leaves every rank's part at the beginning of its buffer, not where that part was"
    return None


def _open(site: Site) -> Opened:
    return Mpi(site)


MPI4PY = register(Transport("mpi4py", BACKENDS.get, _missing, _lacks, _open))
