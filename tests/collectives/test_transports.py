"""Transports between real processes: what every pattern must receive arrives, bit by bit, and refusals are true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chipassay.collectives.transport import Ask, transports

pytest.importorskip("torch")

PROGRAM = Path(__file__).with_name("rank_process.py")
TORCH = transports()["torch.distributed"]
LIMIT_S = 100


def outcome(processes, folder):
    """What every rank wrote; fails with the first one's last words if one did not end well."""
    try:
        for process in processes:
            _, words = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, words.decode()[-3000:]
    finally:
        for process in processes:
            process.kill()
    files = sorted(folder.glob("*.json"))
    return [json.loads(file.read_text()) for file in files]


def started(command):
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module", params=[2, 3, 4])
def gloo(request, tmp_path_factory):
    """The cases of every rank of a job of so many."""
    folder = tmp_path_factory.mktemp("gloo")
    command = [sys.executable, str(PROGRAM), "torch.distributed"]
    ranks = request.param
    found = outcome([started([*command, str(rank), str(ranks), str(folder)]) for rank in range(ranks)], folder)
    assert len(found) == ranks
    return [rank["results"] for rank in found]


def test_gloo_delivers_every_pattern_dtype_and_placement_exactly(gloo):
    assert [case for rank in gloo for case in rank if case["wrong"]] == []
    carried = {(case["pattern"], case["dtype"]) for case in gloo[0] if not case["refusal"]}
    # All eleven patterns; three of them sum, and gloo sums no 8-bit floats.
    assert len({pattern for pattern, _ in carried}) == 11
    assert len(carried) == 11 * 7 - 3 * 2


def test_what_gloo_is_said_to_lack_it_raises_on(gloo):
    tried = [case for rank in gloo for case in rank if "raised" in case]
    assert tried
    assert all("Invalid scalar type" in case["raised"] for case in tried)


def test_what_is_refused_out_of_place_takes_one_tensor_in_torch():
    import inspect

    import torch.distributed as distributed

    verbs = {"all_reduce": distributed.all_reduce, "broadcast": distributed.broadcast, "reduce": distributed.reduce}
    for verb, function in verbs.items():
        assert [name for name in inspect.signature(function).parameters if "tensor" in name or name in ("input", "output")] == ["tensor"]
        assert "in place only" in TORCH.lacks(Ask(verb, verb != "broadcast", "fp32", False, "call", "cpu"))


@pytest.mark.parametrize(
    ("device_kind", "torch_version", "refused"),
    [
        ("cuda", "2.7.1+cu126", True),
        ("cuda", "2.8.0", False),
        ("cuda", "2.13.0+cu130", False),
        ("rocm", "2.13.0", True),
        ("cpu", "2.13.0", True),
    ],
)
def test_sums_of_8_bit_floats_depend_on_the_chip_and_on_torch(device_kind, torch_version, refused, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda package: torch_version)
    reason = TORCH.lacks(Ask("all_reduce", True, "fp8_e4m3", True, "stream", device_kind))
    assert (reason is not None) == refused
    assert TORCH.lacks(Ask("all_gather", False, "fp8_e4m3", True, "stream", device_kind)) is None


@pytest.mark.parametrize("name", ["torch.distributed", "cupy.nccl"])
def test_nccl_adds_up_8_bit_floats_from_hopper_on_and_moves_them_everywhere(name, monkeypatch):
    monkeypatch.setattr("chipassay.collectives.transports.torch_distributed._torch_version", lambda: (2, 11))
    lacks = transports()[name].lacks
    sums = Ask("all_reduce", True, "fp8_e5m2", True, "stream", "cuda")
    assert "9.0" in lacks(replace(sums, compute_capability=(8, 9)))
    assert lacks(replace(sums, compute_capability=(9, 0))) is None
    assert lacks(sums) is None
    assert lacks(replace(sums, dtype="bf16", compute_capability=(8, 0))) is None
    assert lacks(replace(sums, pattern="all_gather", reduces=False, compute_capability=(7, 0))) is None
