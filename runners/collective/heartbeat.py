"""How far each rank has come, where the process that started it can read it: a hung rank is the one that is behind."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

VARIABLE = "CHIPASSAY_PROGRESS"
"""Environment variable with the path of the file: 8 bytes a rank, a little-endian count, in rank order."""
_COUNT = struct.Struct("<Q")


class Heartbeat:
    """One rank's counter. Without the variable it counts for nobody."""

    def __init__(self, rank: int, ranks: int, path: str | None = None) -> None:
        """``path``: None takes the variable's. Raises OSError where the file cannot be made."""
        path = os.environ.get(VARIABLE) if path is None else path
        self._offset, self._count = _COUNT.size * rank, 0
        self._shared: mmap.mmap | None = None
        if path:
            size = _COUNT.size * ranks
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if os.fstat(handle).st_size < size:
                    os.ftruncate(handle, size)
                self._shared = mmap.mmap(handle, size)
            finally:
                os.close(handle)

    def beat(self) -> None:
        """One stage or burst more."""
        self._count += 1
        if self._shared is not None:
            _COUNT.pack_into(self._shared, self._offset, self._count)


def beats(path: Path, ranks: int) -> tuple[int, ...]:
    """The counts of all ranks; 0 for one that has not begun."""
    data = path.read_bytes().ljust(_COUNT.size * ranks, b"\0")
    return tuple(_COUNT.unpack_from(data, _COUNT.size * rank)[0] for rank in range(ranks))
