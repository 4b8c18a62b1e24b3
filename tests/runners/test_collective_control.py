"""What ranks tell each other, between two real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

RANK = """
import os, sys
import torch.distributed as distributed
from chipassay.runners.collective.control import Control

rank = int(os.environ["RANK"])
distributed.init_process_group("gloo", init_method=sys.argv[1], rank=rank, world_size=2)
control = Control(rank, 2)
assert control.sums([1.0, rank]) == [2.0, 1.0]
assert control.each(10.0 + rank) == [10.0, 11.0]
assert control.first(10.0 + rank) == 10.0
assert control.texts(["", "caf\\u00e9"][rank]) == ["", "caf\\u00e9"]
assert control.texts("") == ["", ""]
assert control.share([b"\\0id\\xff", None][rank], (0, 1)) == b"\\0id\\xff"
assert control.share([None, b"back"][rank], (1, 0)) == b"back"
assert control.share(b"alone", (rank,)) == b"alone"
assert control.share(None, (1 - rank,)) == b""
control.barrier()
print("done")
distributed.destroy_process_group()
"""


def test_sums_texts_and_shared_messages_reach_every_rank(tmp_path):
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, (tmp_path / "meeting").as_uri()],
            env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            said, complained = rank.communicate(timeout=60)
            assert said == "done\n", complained
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
