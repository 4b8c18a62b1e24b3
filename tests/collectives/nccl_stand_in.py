"""A stand-in for ``cupy.cuda.nccl`` between threads of one process: does to raw pointers what NCCL's guide says of each function.

Strict where NCCL hangs or corrupts memory: sends and receives must pair up with equal counts, and all ranks must make the same call.
"""

from __future__ import annotations

import ctypes
import threading

import torch

available = True
STREAM = 77
"""The only stream that calls may name."""

_DTYPES = {
    0: torch.int8,
    1: torch.uint8,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    9: torch.bfloat16,
    10: torch.float8_e4m3fn,
    11: torch.float8_e5m2,
}
"""ncclDataType_t, from nccl.h."""
_ids = iter(range(1, 100))
_worlds: dict[tuple[int, ...], _World] = {}
_lock = threading.Lock()
_grouped = threading.local()


class _World:
    """All ranks of one communicator: each call is a meeting in which every rank sees what all brought."""

    def __init__(self, ranks):
        self.barrier = threading.Barrier(ranks, timeout=20)
        self.brought = [None] * ranks

    def meet(self, rank, what):
        self.barrier.wait()
        self.brought[rank] = what
        self.barrier.wait()
        return list(self.brought)


def get_version():
    return 22407


def get_unique_id():
    # Signed characters, as cupy gives them.
    return (next(_ids), -128, 127, -1, *([0] * 124))


def groupStart():
    assert getattr(_grouped, "calls", None) is None
    _grouped.calls = []


def groupEnd():
    calls, _grouped.calls = _grouped.calls, None
    (communicator,) = {id(call[0]): call[0] for call in calls}.values() if calls else (None,)
    if communicator is not None:
        communicator._exchange([call[1:] for call in calls])


def _read(pointer, count, number):
    dtype = _DTYPES[number]
    data = bytearray(ctypes.string_at(pointer, count * dtype.itemsize))
    return torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)


def _write(pointer, tensor):
    flat = tensor.contiguous().view(torch.uint8)
    ctypes.memmove(pointer, bytes(flat.tolist()), flat.numel())


class NcclCommunicator:
    """One rank's."""

    def __init__(self, ndev, identity, rank):
        assert len(identity) == 128
        assert all(-128 <= character <= 127 for character in identity)
        with _lock:
            self._world = _worlds.setdefault(identity, _World(ndev))
        self._rank, self._ranks = rank, ndev
        self.destroyed = False
        self._world.meet(rank, "init")

    def destroy(self):
        self.destroyed = True

    def _meet(self, name, count, number, root, stream, data):
        assert stream == STREAM
        all_brought = self._world.meet(self._rank, ((name, count, number, root), data))
        assert len({brought[0] for brought in all_brought}) == 1, "ranks called different things"
        return [brought[1] for brought in all_brought]

    def _sum(self, number, parts):
        return torch.stack([part.double() for part in parts]).sum(0).to(_DTYPES[number])

    def allReduce(self, send, receive, count, number, op, stream):
        assert op == 0
        _write(receive, self._sum(number, self._meet("allReduce", count, number, None, stream, _read(send, count, number))))

    def reduce(self, send, receive, count, number, op, root, stream):
        assert op == 0
        parts = self._meet("reduce", count, number, root, stream, _read(send, count, number))
        if self._rank == root:
            _write(receive, self._sum(number, parts))

    def broadcast(self, send, receive, count, number, root, stream):
        # Only the root's send buffer is looked at.
        own = _read(send, count, number) if self._rank == root else None
        _write(receive, self._meet("broadcast", count, number, root, stream, own)[root])

    def reduceScatter(self, send, receive, count, number, op, stream):
        assert op == 0
        parts = self._meet("reduceScatter", count, number, None, stream, _read(send, count * self._ranks, number))
        _write(receive, self._sum(number, parts)[self._rank * count : (self._rank + 1) * count])

    def allGather(self, send, receive, count, number, stream):
        _write(receive, torch.cat(self._meet("allGather", count, number, None, stream, _read(send, count, number))))

    def send(self, pointer, count, number, peer, stream):
        assert stream == STREAM
        _grouped.calls.append((self, "send", pointer, count, number, peer))

    def recv(self, pointer, count, number, peer, stream):
        assert stream == STREAM
        _grouped.calls.append((self, "recv", pointer, count, number, peer))

    def _exchange(self, calls):
        sends = {peer: _read(pointer, count, number) for what, pointer, count, number, peer in calls if what == "send"}
        receives = {peer: (pointer, count) for what, pointer, count, number, peer in calls if what == "recv"}
        assert len(sends) + len(receives) == len(calls), "two sends to one peer"
        brought = self._world.meet(self._rank, (sends, set(receives)))
        wanted_from_me = {peer for peer, (_, receiving) in enumerate(brought) if self._rank in receiving}
        assert wanted_from_me == set(sends), "a send without a receive"
        for peer, (pointer, count) in receives.items():
            data = brought[peer][0][self._rank]
            assert len(data) == count, "a send and its receive differ in count"
            _write(pointer, data)
