"""A SkyPilot task runs its commands once a node and starts no ranks itself: torchrun does that, with what SkyPilot tells."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from chipassay.results.errors import InputError

from .environment import DEFAULT_PORT


def torchrun_command(environ: Mapping[str, str], arguments: Sequence[str], ranks_per_node: int | None) -> list[str] | None:
    """The command that starts the same measurement under torchrun; None: this is no SkyPilot task over several nodes, or it is started.

    ``ranks_per_node``: None takes the node's number of GPUs, one where it has none. The variables are those of SkyPilot's documentation,
    "Environment Variables". Raises InputError where one is missing.

    >>> told = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.1\\n10.0.0.2"}
    >>> torchrun_command(told | {"SKYPILOT_NUM_GPUS_PER_NODE": "8"}, ["run"], None)[3:]  # doctest: +NORMALIZE_WHITESPACE
    ['--nnodes=2', '--node-rank=1', '--nproc-per-node=8', '--master-addr=10.0.0.1', '--master-port=29500', '-m', 'chipassay.runners', 'run']
    """
    nodes = environ.get("SKYPILOT_NUM_NODES", "1")
    if not nodes.isdecimal() or int(nodes) < 2 or "RANK" in environ:
        return None
    addresses = environ.get("SKYPILOT_NODE_IPS", "").split()
    rank = environ.get("SKYPILOT_NODE_RANK", "")
    if len(addresses) != int(nodes) or not rank.isdecimal() or int(rank) >= int(nodes):
        raise InputError(
            f"SKYPILOT_NUM_NODES={nodes} contradicts SKYPILOT_NODE_RANK={rank!r} or the {len(addresses)} SKYPILOT_NODE_IPS; "
            "run the command from the task's `run` section as it is"
        )
    gpus = environ.get("SKYPILOT_NUM_GPUS_PER_NODE", "0")
    count = ranks_per_node or (int(gpus) if gpus.isdecimal() else 0) or 1
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nnodes={nodes}",
        f"--node-rank={rank}",
        f"--nproc-per-node={count}",
        f"--master-addr={addresses[0]}",
        f"--master-port={environ.get('MASTER_PORT', DEFAULT_PORT)}",
        "-m",
        "chipassay.runners",
        *arguments,
    ]
