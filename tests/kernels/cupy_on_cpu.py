"""CuPy without a GPU, for tests: NumPy's arrays, and raw modules that a C++ compiler makes of the CUDA source with ``cuda_on_cpu.h``.

So everything of a kernel runs but the chip: what Python prepares and passes, what the source computes, barriers and fragments included.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from chipassay.kernels.arrays_cupy import CupyArrays
from chipassay.kernels.cuda.program import INTRINSICS, KERNELS

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
COMPILER = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")

TRAMPOLINE = """
extern "C" const char* launch_{name}(unsigned blocks, unsigned threads, size_t shared, int order, void** arguments, const size_t* sizes,
                                     size_t count) {{
    return on_cpu::launch({name}, blocks, threads, shared, order, arguments, sizes, count);
}}
"""


class RawModule:
    """What ``cupy.RawModule`` is to ``program.py``. Class attributes set the compute capability and the order of threads."""

    capability = 80
    order = 1
    flags = ("-std=c++14", "-O1", "-fno-strict-aliasing", "-fwrapv", "-w", "-shared", "-fPIC", "-Wl,-Bsymbolic")
    """The last: a kernel called ``read`` is meant, not the system's function."""
    folder = Path(tempfile.gettempdir())
    made: dict[str, str] = {}  # noqa: RUF012  shared by all on purpose: the same source is compiled once

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        assert options == ("--std=c++14",)
        self.code = code

    def get_function(self, name: str) -> Function:
        intrinsics = (KERNELS / INTRINSICS).read_text(encoding="utf-8")
        assert self.code.count(intrinsics) == 1
        source = self.code.replace(intrinsics, f'#include "{HEADER}"\n') + TRAMPOLINE.format(name=name)
        arch = f"-D__CUDA_ARCH__={self.capability}0"
        key = hashlib.sha256((source + arch).encode()).hexdigest()[:16]
        if key not in self.made:
            library = self.folder / f"{key}.so"
            options = [*self.flags, arch, "-o", library, "-"]
            subprocess.run([COMPILER, "-x", "c++", *options], input=source, text=True, check=True)
            self.made[key] = str(library)
        function = getattr(ctypes.CDLL(self.made[key]), f"launch_{name}")
        function.restype = ctypes.c_char_p
        return Function(function, self.order)


class Function:
    """What a function of a ``cupy.RawModule`` is to ``program.py``."""

    def __init__(self, function: Any, order: int) -> None:
        self.function, self.order, self.max_dynamic_shared_size_bytes = function, order, 48 * 1024

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...], shared_mem: int = 0) -> None:
        assert shared_mem <= self.max_dynamic_shared_size_bytes, "more than 48 KiB of shared memory, and not asked for"
        held = [ctypes.c_void_p(x.ctypes.data) if isinstance(x, np.ndarray) else np.asarray(x) for x in arguments]
        places = [ctypes.addressof(x) if isinstance(x, ctypes.c_void_p) else x.ctypes.data for x in held]
        sizes = [8 if isinstance(x, ctypes.c_void_p) else x.nbytes for x in held]
        problem = self.function(
            ctypes.c_uint(grid[0]),
            ctypes.c_uint(block[0]),
            ctypes.c_size_t(shared_mem),
            ctypes.c_int(self.order),
            (ctypes.c_void_p * len(places))(*places),
            (ctypes.c_size_t * len(sizes))(*sizes),
            ctypes.c_size_t(len(sizes)),
        )
        assert problem is None, problem.decode()


class _RandomState(np.random.RandomState):
    def standard_normal(self, size: Any = None, dtype: str = "float64") -> Any:
        return super().standard_normal(size).astype(dtype)


class _Numpy(SimpleNamespace):
    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class _Device:
    attributes = {"MultiProcessorCount": 2}  # noqa: RUF012  as CuPy has it

    def __init__(self, number: int = 0) -> None:
        pass

    @property
    def compute_capability(self) -> str:
        return str(RawModule.capability)

    def use(self) -> None: ...

    def synchronize(self) -> None: ...


class _Linalg:
    """CuPy's choice of arithmetic, which NumPy does not have: the last one asked for."""

    COMPUTE_TYPE_DEFAULT, COMPUTE_TYPE_TF32 = 1, 7
    chosen: dict[Any, int] = {}  # noqa: RUF012  as CuPy keeps it, for the process

    @classmethod
    def set_compute_type(cls, dtype: Any, compute_type: int) -> None:
        cls.chosen[dtype] = compute_type


CUPY: Any = _Numpy(
    _core=SimpleNamespace(_routines_linalg=_Linalg),
    RawModule=RawModule,
    cuda=SimpleNamespace(Device=_Device),
    random=SimpleNamespace(RandomState=_RandomState),
    asnumpy=np.asarray,
)
"""To be put into ``sys.modules["cupy"]``."""


def guarded(array: np.ndarray) -> np.ndarray:
    """A copy that ends (to 16 bytes) where the process may not read, so that a kernel that reads on is stopped by the system."""
    size = -(-array.nbytes // 16) * 16
    pages = -(-size // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    if protect(ctypes.c_void_p(start + pages * mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    whole = np.frombuffer(memory, dtype=np.uint8, count=pages * mmap.PAGESIZE)
    whole[:] = 0xFF
    copy = whole[pages * mmap.PAGESIZE - size :][: array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class GuardedArrays(CupyArrays):
    """CuPy's arrays with NumPy beneath, each at the end of its memory."""

    float64_speed = "host"

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Any:
        return guarded(super().normal(shape, dtype, seed))

    def unwritten(self, shape: tuple[int, ...], dtype: str) -> Any:
        return guarded(super().unwritten(shape, dtype))
