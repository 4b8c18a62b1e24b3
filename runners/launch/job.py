"""One process of a launched job from its first word to its last: rank 0 leads and gets a crew, the others follow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from chipassay.results.errors import ChipassayError, NothingMeasured

from ..budget import PATIENCE_S
from ..crew import START_TIMEOUT_S, LaunchedCrew
from ..options import RunOptions
from ..workers.client import WorkerDied, WorkerTimeout
from .board import BoardLost, open_board
from .environment import Launch, find_launch
from .fleet import Fleet
from .follow import follow
from .skypilot import torchrun_command
from .ward import Ward

WAIT_S = 60.0
"""How long rank 0 and the others wait for each other: launchers start them within seconds, importing torch may take many more."""
MPI_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
"""One of these is set where processes may begin MPI together."""


def launch_of_this_process(arguments: Sequence[str], ranks: int | None, environ: Mapping[str, str] = os.environ) -> Launch | None:
    """The job that this process is one of; None: it was started alone. In a SkyPilot task it becomes torchrun, with the same arguments."""
    command = torchrun_command(environ, arguments, ranks)
    if command is not None:
        os.execv(command[0], command)
    return find_launch(environ)


def asked(options: RunOptions) -> dict[str, str]:
    """What must be the same on the command lines of all ranks: rank 0 plans with its own."""
    return {"backend": ",".join(options.backends), "device": options.device_kind or ""}


def lead(launch: Launch, options: RunOptions, wait_s: float = WAIT_S) -> LaunchedCrew:
    """The ranks of the job, ready to measure. Raises InputError or NothingMeasured, with which all processes end."""
    board = open_board(launch, wait_s)
    ward = Ward(launch, board.prefix, PATIENCE_S, options.share_gpu)
    fleet = Fleet(board, ward, launch, asked(options), options.device_kind, options.share_gpu)
    code, words = 130, "rank 0 was interrupted"
    try:
        try:
            fleet.gather(wait_s)
            fleet.start(START_TIMEOUT_S)
        except (WorkerDied, WorkerTimeout, BoardLost) as error:
            raise NothingMeasured(f"the ranks could not be started: {error}; see `chipassay doctor` on its host") from error
        return LaunchedCrew(fleet, launch.launcher != "torchrun" and any(name in os.environ for name in MPI_VARIABLES))
    except BaseException as error:
        if isinstance(error, ChipassayError):
            code, words = error.exit_code, str(error)
        fleet.stop(code, words)
        raise


def join(launch: Launch, options: RunOptions, wait_s: float = WAIT_S) -> tuple[int, str | None]:
    """Follow rank 0 to the end: the exit code, and the error in words if there was one."""
    board = open_board(launch, wait_s)
    return follow(board, Ward(launch, board.prefix, PATIENCE_S, options.share_gpu), asked(options), launch.rank)
