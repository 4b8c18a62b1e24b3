"""NCCL (and RCCL, in a cupy made for ROCm) called directly through ``cupy.cuda.nccl``, on torch's memory.

Run on one H200 by two ranks, but for broadcast and int8; never between GPUs.

Nothing lies between a call and the library, so a row beside torch.distributed's shows what torch adds; all verbs exist out of place.
Interface: cupy's reference, ``cupy.cuda.nccl``. Counts, roots and groups: NCCL user guide, "API" and "Point-to-point communication".
"""

from __future__ import annotations

import array
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..transport import Opened, Site, Transport, nccl_lacks_sums, register
from .own_group import OwnGroup

BACKENDS = {"cuda": "nccl", "rocm": "rccl"}

SUM = 0
"""``ncclSum``."""
BYTE = 1
"""``ncclUint8``."""
NUMBERS = {
    "int8": 0,
    "float16": 6,
    "float32": 7,
    "float64": 8,
    "bfloat16": 9,
    "float8_e4m3fn": 10,
    "float8_e5m2": 11,
}
"""torch's dtypes -> ``ncclDataType_t`` (NCCL user guide, "Types"). The 8-bit floats came with NCCL 2.24 and need SM 90; cupy passes the
number on, so a library that does not know it says so."""


class NcclGroup:
    """An NCCL communicator and torch's current stream as a communicator."""

    def __init__(self, nccl: Any, communicator: Any, rank: int, ranks: int, device: str) -> None:
        import torch

        self._nccl, self._communicator = nccl, communicator
        self.rank, self.ranks = rank, ranks
        self._numbers = {getattr(torch, name): number for name, number in NUMBERS.items()}
        self._current_stream: Callable[[], Any] = torch.cuda.current_stream
        self._token = torch.zeros(1, device=device)

    def all_reduce(self, send: Any, receive: Any) -> None:
        number, stream = self._numbers[send.dtype], self._stream()
        self._communicator.allReduce(send.data_ptr(), receive.data_ptr(), send.numel(), number, SUM, stream)

    def all_gather(self, send: Any, receive: Any) -> None:
        # What is only moved is bytes to NCCL too.
        self._communicator.allGather(send.data_ptr(), receive.data_ptr(), _bytes(send), BYTE, self._stream())

    def reduce_scatter(self, send: Any, receive: Any) -> None:
        number, stream = self._numbers[send.dtype], self._stream()
        self._communicator.reduceScatter(send.data_ptr(), receive.data_ptr(), receive.numel(), number, SUM, stream)

    def broadcast(self, send: Any, receive: Any) -> None:
        source = send if self.rank == 0 else receive
        self._communicator.broadcast(source.data_ptr(), receive.data_ptr(), _bytes(receive), BYTE, 0, self._stream())

    def reduce(self, send: Any, receive: Any) -> None:
        target, number = receive if self.rank == 0 else send, self._numbers[send.dtype]
        self._communicator.reduce(send.data_ptr(), target.data_ptr(), send.numel(), number, SUM, 0, self._stream())

    def gather(self, send: Any, receive: Any) -> None:
        stream, part = self._stream(), _bytes(send)
        self._nccl.groupStart()
        self._communicator.send(send.data_ptr(), part, BYTE, 0, stream)
        if self.rank == 0:
            begin = receive.data_ptr()
            for source in range(self.ranks):
                self._communicator.recv(begin + source * part, part, BYTE, source, stream)
        self._nccl.groupEnd()

    def scatter(self, send: Any, receive: Any) -> None:
        stream, part = self._stream(), _bytes(receive)
        self._nccl.groupStart()
        if self.rank == 0:
            begin = send.data_ptr()
            for to in range(self.ranks):
                self._communicator.send(begin + to * part, part, BYTE, to, stream)
        self._communicator.recv(receive.data_ptr(), part, BYTE, 0, stream)
        self._nccl.groupEnd()

    def all_to_all(self, send: Any, receive: Any, sent: Sequence[int], received: Sequence[int]) -> None:
        stream, itemsize = self._stream(), send.element_size()
        send_at, receive_at = send.data_ptr(), receive.data_ptr()
        self._nccl.groupStart()
        for peer in range(self.ranks):
            out, into = sent[peer] * itemsize, received[peer] * itemsize
            if out:
                self._communicator.send(send_at, out, BYTE, peer, stream)
            if into:
                self._communicator.recv(receive_at, into, BYTE, peer, stream)
            send_at += out
            receive_at += into
        self._nccl.groupEnd()

    def send_receive(self, send: Any, to: int, receive: Any, source: int) -> None:
        stream = self._stream()
        self._nccl.groupStart()
        self._communicator.send(send.data_ptr(), _bytes(send), BYTE, to, stream)
        self._communicator.recv(receive.data_ptr(), _bytes(receive), BYTE, source, stream)
        self._nccl.groupEnd()

    def barrier(self) -> None:
        """NCCL has none: an all-reduce of one element."""
        self.all_reduce(self._token, self._token)

    def close(self) -> None:
        self._communicator.destroy()

    def _stream(self) -> int:
        return self._current_stream().cuda_stream


class CupyNccl(OwnGroup):
    """NCCL on this rank, on the device that torch drives."""

    def __init__(self, site: Site) -> None:
        from cupy.cuda import nccl

        if not getattr(nccl, "available", False):
            raise RuntimeError("cupy finds no NCCL library: `python -m cupyx.tools.install_library --library nccl` says how to get one")
        super().__init__(site)
        self._nccl = nccl

    def _made(self, members: tuple[int, ...]) -> NcclGroup:
        rank = members.index(self._site.rank)
        identity = self._site.share(_shared(self._nccl.get_unique_id()) if rank == 0 else None, members)
        communicator = self._nccl.NcclCommunicator(len(members), _received(identity), rank)
        return NcclGroup(self._nccl, communicator, rank, len(members), self._site.device)

    def versions(self) -> dict[str, str]:
        import cupy

        number = self._nccl.get_version()
        return {"cupy": cupy.__version__, BACKENDS[self._site.device_kind]: f"{number // 10000}.{number // 100 % 100}.{number % 100}"}


def _bytes(tensor: Any) -> int:
    return tensor.numel() * tensor.element_size()


IDENTITY_BYTES = 128
"""NCCL's ncclUniqueId."""


def _shared(identity: bytes | Sequence[int]) -> bytes:
    """cupy's unique id as bytes that go to the other ranks: since cupy 14 it is bytes, before it was a tuple of characters as numbers,
    which take two bytes each here, because C's ``char`` has a sign on x86 and none on ARM."""
    return identity if isinstance(identity, bytes) else array.array("h", identity).tobytes()


def _received(identity: bytes) -> bytes | tuple[int, ...]:
    """The id as this cupy takes it, the same version on all ranks."""
    return identity if len(identity) == IDENTITY_BYTES else tuple(array.array("h", identity))


def _missing(device_kind: str) -> str | None:
    if device_kind not in BACKENDS:
        return f"cupy.nccl works between GPUs, not between {device_kind} devices"
    if importlib.util.find_spec("torch") is None:
        return "torch, whose memory cupy.nccl works on, is not installed: install chipassay[torch]"
    if importlib.util.find_spec("cupy") is None:
        mend = "install chipassay[cuda12] or chipassay[cuda13]" if device_kind == "cuda" else "install a cupy made for this ROCm"
        return f"cupy is not installed: {mend}"
    libraries = importlib.util.find_spec("cupy_backends")
    places = (libraries.submodule_search_locations or []) if libraries else []
    # cupy itself takes seconds to import, and its extension for NCCL is a file of its own.
    if not any(file for place in places for file in (Path(place) / "cuda" / "libs").glob("nccl.*so")):
        return "this cupy was built without NCCL: install chipassay[cuda12] or chipassay[cuda13]"
    return None


def _open(site: Site) -> Opened:
    return CupyNccl(site)


CUPY_NCCL = register(Transport("cupy.nccl", BACKENDS.get, _missing, nccl_lacks_sums, _open))
