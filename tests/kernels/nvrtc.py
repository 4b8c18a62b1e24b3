"""NVRTC through ctypes, out of NVIDIA's pip wheels: compiles CUDA C++ to machine code for chips that need not be here, without a driver."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

LIBRARIES = {"11": "cuda_nvrtc/lib/libnvrtc.so.11.2", "12": "cuda_nvrtc/lib/libnvrtc.so.12", "13": "cu13/lib/libnvrtc.so.13"}
"""CUDA generation -> where its wheel (nvidia-cuda-nvrtc-cu11, -cu12, without suffix from 13 on) puts the library, below ``nvidia/``."""


@dataclass(frozen=True)
class Compiled:
    """What came out, and what the assembler said of it."""

    ptx: str
    cubin: bytes
    log: str

    @property
    def registers(self) -> int:
        """32-bit registers of a thread, the most of any function."""
        return max(map(int, re.findall(r"Used (\d+) registers", self.log)))

    @property
    def spilled_bytes(self) -> int:
        return sum(map(int, re.findall(r"(\d+) bytes spill (?:stores|loads)", self.log)))


@functools.cache
def library(generation: str) -> ctypes.CDLL | None:
    """The NVRTC of a CUDA generation, None where its wheel is not installed."""
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations or [] if found else []:
        path = Path(folder) / LIBRARIES[generation]
        if path.exists():
            return ctypes.CDLL(str(path))
    return None


def architectures(generation: str) -> set[int]:
    """What it compiles for, as the number after ``sm_``."""
    nvrtc, count = library(generation), ctypes.c_int()
    assert nvrtc is not None
    nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    found = (ctypes.c_int * count.value)()
    nvrtc.nvrtcGetSupportedArchs(found)
    return set(found)


def compile_source(source: str, generation: str, arch: int, options: tuple[str, ...]) -> Compiled:
    """Raises AssertionError with the compiler's words where it does not compile.

    In a thread of its own: NVRTC 11 leaves the C locale on the thread that called it, so that files which are opened there later without
    an encoding are read as ASCII (torch's compiler reads its templates so).
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_compile, source, generation, arch, options).result()


def _compile(source: str, generation: str, arch: int, options: tuple[str, ...]) -> Compiled:
    nvrtc, program = library(generation), ctypes.c_void_p()
    assert nvrtc is not None
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    try:
        words = [option.encode() for option in (*options, f"--gpu-architecture=sm_{arch}", "--ptxas-options=--verbose")]
        failed = nvrtc.nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
        log = _read(nvrtc, program, "ProgramLog").decode(errors="replace")
        assert failed == 0, log
        return Compiled(_read(nvrtc, program, "PTX").decode(), _read(nvrtc, program, "CUBIN"), log)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, buffer) == 0
    return buffer.raw.rstrip(b"\0") if what != "CUBIN" else buffer.raw


def disassembler() -> Path | None:
    """nvdisasm as the Triton wheel brings it (its generation knows chips from sm_75 on)."""
    found = importlib.util.find_spec("triton")
    path = Path(found.origin).parent / "backends/nvidia/bin/nvdisasm" if found and found.origin else None
    return path if path is not None and path.exists() else None


def disassemble(cubin: bytes) -> str:
    """The machine code in words (SASS)."""
    tool = disassembler()
    assert tool is not None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True).stdout
