"""Who started this process among others, by the environment variables that each launcher documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from chipassay.results.errors import InputError

DEFAULT_PORT = 29500
"""torchrun's (torch docs, elastic/run.html)."""
SLURM_PORTS = (20000, 10000)
"""First and count of the ports given to Slurm steps: below what systems hand out themselves (from 32768 on, Linux's ip-sysctl)."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Launch:
    """This process's place in a job of several."""

    launcher: str
    """``torchrun``, ``srun``, ``mpirun``, or ``RANK and WORLD_SIZE``."""
    rank: int
    ranks: int
    master_address: str
    """Where rank 0 listens; every host must reach it."""
    master_port: int
    local_rank: int | None = None
    """On its host; None: not told, found from the hosts when all have come."""
    local_ranks: int | None = None
    agent_store: bool = False
    """A store of torchrun's agent listens at the master address already."""
    attempt: int = 0
    """How often torchrun has started the job anew: its store keeps what was written before."""

    @property
    def several_hosts(self) -> bool:
        """Whether it may span hosts, as far as the launcher tells."""
        return self.local_ranks is None or self.local_ranks < self.ranks


@dataclass(frozen=True)
class _Told:
    """What one launcher's variables say."""

    launcher: str
    rank: int
    ranks: int
    rank_name: str
    ranks_name: str
    local_rank: int | None = None
    local_ranks: int | None = None


def find_launch(environ: Mapping[str, str]) -> Launch | None:
    """The job that this process is one of; None: it was started alone.

    Raises InputError where variables contradict each other, or where nothing says which host is the first.

    >>> found = find_launch({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"})
    >>> found.launcher, found.rank, found.ranks, found.master_address, found.master_port
    ('RANK and WORLD_SIZE', 1, 2, '10.0.0.1', 4000)
    >>> find_launch({}) is None
    True
    """
    told = _torchrun(environ)
    if told is None:
        every = [found for found in (_mpi(environ), _slurm(environ)) if found is not None]
        shells = _shells(environ, every)
        every = [*([shells] if shells else []), *every]
        _agree(every)
        told = every[0] if every else None
    if told is None or told.ranks == 1:
        return None
    if not 0 <= told.rank < told.ranks:
        raise InputError(
            f"{told.rank_name}={told.rank} is no rank of {told.ranks_name}={told.ranks}; ranks count from 0 to {told.ranks - 1}"
        )
    address = environ.get("MASTER_ADDR") or _master(told, environ)
    return Launch(
        launcher=told.launcher,
        rank=told.rank,
        ranks=told.ranks,
        master_address=address,
        master_port=_port(told, environ),
        local_rank=told.local_rank,
        local_ranks=told.local_ranks,
        agent_store=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=_integer(environ, "TORCHELASTIC_RESTART_COUNT") or 0,
    )


def _torchrun(environ: Mapping[str, str]) -> _Told | None:
    """torch docs, elastic/run.html, "Environment Variables". What started torchrun itself (srun, mpirun) no longer counts."""
    if "TORCHELASTIC_RUN_ID" not in environ or "RANK" not in environ or "WORLD_SIZE" not in environ:
        return None
    return _read(environ, "torchrun", "RANK", "WORLD_SIZE", ("LOCAL_RANK",), ("LOCAL_WORLD_SIZE",))


def _shells(environ: Mapping[str, str], others: list[_Told]) -> _Told | None:
    """The names that torch.distributed's ``env://`` reads, set by hand or by an operator of a cluster."""
    rank, ranks = environ.get("RANK"), environ.get("WORLD_SIZE")
    if rank is not None and ranks is not None:
        return _read(environ, "RANK and WORLD_SIZE", "RANK", "WORLD_SIZE", ("LOCAL_RANK",), ("LOCAL_WORLD_SIZE",))
    if rank is None and ranks is None:
        return None
    if ranks is not None and others:
        # Batch scripts export it beside srun; the launcher tells the rank.
        first = others[0]
        return _Told(
            first.launcher, first.rank, _count(environ, "WORLD_SIZE"), first.rank_name, "WORLD_SIZE", first.local_rank, first.local_ranks
        )
    if "PMIX_RANK" in environ and ranks is not None:
        return _read(environ, "mpirun", "PMIX_RANK", "WORLD_SIZE", (), ())
    there, missing = ("RANK", "WORLD_SIZE") if ranks is None else ("WORLD_SIZE", "RANK")
    raise InputError(f"{there}={environ[there]} is set and {missing} is not; set both for each process, or unset {there}")


def _slurm(environ: Mapping[str, str]) -> _Told | None:
    """srun(1), "OUTPUT ENVIRONMENT VARIABLES". A batch script's own shell has a SLURM_PROCID too, but is no task of a step."""
    if "SLURM_PROCID" not in environ or "SLURM_STEP_ID" not in environ:
        return None
    size = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    if size not in environ:
        return None
    told = _read(environ, "srun", "SLURM_PROCID", size, ("SLURM_LOCALID",), ())
    alone = environ.get("SLURM_STEP_NUM_NODES") == "1"
    # An interactive shell (`srun --pty bash`) is one task that measures by itself.
    return None if told.ranks == 1 else _Told(**{**vars(told), "local_ranks": told.ranks if alone else None})


def _mpi(environ: Mapping[str, str]) -> _Told | None:
    """Open MPI: its FAQ, "What environmental variables". MPICH and Intel MPI: those of their process manager Hydra."""
    for names in (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", ("OMPI_COMM_WORLD_LOCAL_RANK",), ("OMPI_COMM_WORLD_LOCAL_SIZE",)),
        ("PMI_RANK", "PMI_SIZE", ("MPI_LOCALRANKID", "PMI_LOCAL_RANK"), ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE")),
    ):
        if names[0] in environ and names[1] in environ:
            told = _read(environ, "mpirun", *names)
            # srun speaks PMI too, and then says PMI_SIZE=1 for a step of one.
            return None if told.ranks == 1 else told
    return None


def _read(
    environ: Mapping[str, str], launcher: str, rank: str, ranks: str, local_rank: tuple[str, ...], local_ranks: tuple[str, ...]
) -> _Told:
    here = next((_integer(environ, name) for name in local_rank if name in environ), None)
    all_here = next((_integer(environ, name) for name in local_ranks if name in environ), None)
    return _Told(launcher, _count(environ, rank), _count(environ, ranks), rank, ranks, here, all_here)


def _agree(every: list[_Told]) -> None:
    for one in every[1:]:
        first = every[0]
        if one.ranks != first.ranks:
            raise InputError(
                f"{first.ranks_name}={first.ranks} contradicts {one.ranks_name}={one.ranks}; "
                f"unset {first.ranks_name}, or start as many processes with {one.launcher}"
            )
        if one.rank != first.rank:
            raise InputError(
                f"{first.rank_name}={first.rank} contradicts {one.rank_name}={one.rank}; unset {first.rank_name} and {first.ranks_name}"
            )


def _master(told: _Told, environ: Mapping[str, str]) -> str:
    if told.launcher == "srun":
        for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"):
            if environ.get(name):
                return first_host(environ[name])
    if told.local_ranks == told.ranks:
        return LOOPBACK
    if told.launcher == "mpirun":
        raise InputError(
            f"{told.ranks_name}={told.ranks} processes on several hosts need the first one's name; "
            "add -x MASTER_ADDR=HOST (Open MPI) or -genv MASTER_ADDR HOST (MPICH, Intel MPI) to mpirun"
        )
    raise InputError(f"{told.ranks_name}={told.ranks} is set and MASTER_ADDR is not; set it to rank 0's host, 127.0.0.1 on one host alone")


def _port(told: _Told, environ: Mapping[str, str]) -> int:
    if environ.get("MASTER_PORT"):
        port = _count(environ, "MASTER_PORT")
        if not 0 < port < 65536:
            raise InputError(f"MASTER_PORT={port} is no port; write 1 to 65535")
        return port
    if told.launcher == "srun" and "SLURM_JOB_ID" in environ:
        # Jobs that share a node, and steps that follow each other, get different ones.
        first, count = SLURM_PORTS
        return first + (_count(environ, "SLURM_JOB_ID") + _count(environ, "SLURM_STEP_ID")) % count
    return DEFAULT_PORT


def first_host(node_list: str) -> str:
    """The first host of a Slurm node list.

    >>> first_host("gpu[003-005,9],login"), first_host("rack[1-2]n[07-08]"), first_host("a1,b[2-3]")
    ('gpu003', 'rack1n07', 'a1')
    """
    found = re.match(r"(?:[^,\[]|\[[^\]]*\])+", node_list)
    if found is None:
        raise InputError(f"{node_list!r} is no Slurm node list; set MASTER_ADDR to the first host")
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", found[0])


def _integer(environ: Mapping[str, str], name: str) -> int | None:
    return _count(environ, name) if name in environ else None


def _count(environ: Mapping[str, str], name: str) -> int:
    text = environ[name]
    if not text.isdecimal():
        raise InputError(f"{name}={text!r} is no count; a launcher sets it to 0, 1, 2, ...")
    return int(text)
