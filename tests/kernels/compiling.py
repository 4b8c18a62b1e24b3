"""Compiles Triton kernels ahead of time for chips that need not be here, and reads what the compiler says of the result.

A test module lists its ``Job``s, compiles them all at once with ``compile_all`` (two processes; Triton caches on disk, so a second run is
quick) and asserts on each ``Compiled``; ``broken_limits`` says what does not fit the chip. Run as a script this file is such a process: a
job as JSON on each line of the input, its result on each line of the output. Jobs hold strings and numbers alone to make that possible,
and a compiler that dies takes one job with it, not the tests.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROCESSES = 2
"""As many as CI's machines have cores, about: a compilation is single-threaded and takes up to a gigabyte."""


@dataclass(frozen=True)
class Chip:
    """What a compiled kernel must fit into."""

    backend: str
    arch: int | str
    warp_size: int
    shared_bytes: int
    """Most shared memory (AMD: LDS) of one block."""
    registers_per_thread: int
    registers_per_block: int
    """32-bit registers of all threads of a block together."""


CHIPS = {
    "sm_80": Chip("cuda", 80, 32, 163 * 1024, 255, 65536),
    "sm_90": Chip("cuda", 90, 32, 227 * 1024, 255, 65536),
    "sm_100": Chip("cuda", 100, 32, 227 * 1024, 255, 65536),
    "sm_120": Chip("cuda", 120, 32, 99 * 1024, 255, 65536),
    "gfx942": Chip("hip", "gfx942", 64, 64 * 1024, 512, 4 * 512 * 64),
}
"""NVIDIA: CUDA C++ Programming Guide 13.0, "Compute Capabilities", table of technical specifications. AMD: "AMD Instinct MI300 Instruction
Set Architecture" (2025): 64 KiB of LDS (section 11), 512 vector registers a lane, half of them for accumulation (section 3.6.4); a compute
unit has four SIMDs of 64-lane waves."""


TENSOR_COLUMNS = 512
"""Of Blackwell's tensor memory: PTX ISA, "Tensor Memory". Triton compiles a kernel that needs more to nothing, and a launch raises."""
FEWEST_TENSOR_REGISTERS = 16
"""A warp's share of the smallest tile of fp32 sums, 16 by 16, takes 8 registers of a thread, and its operands 6."""


@dataclass(frozen=True)
class Job:
    """One kernel, one set of constants, one chip."""

    name: str
    kernel: str
    """Where the lazily jitted kernel is: ``chipassay.kernels.matmul.triton:tile``."""
    chip: str
    """A key of CHIPS."""
    types: Mapping[str, str]
    """Triton's type of each argument that is not constant: ``*bf16``, ``i32``, ``fp32``, ``tensordesc<bf16[128, 64]>``."""
    constants: Mapping[str, Any]
    """Values of the constexpr arguments, and of those that Triton makes constant: a stride of 1, a pointer that is None."""
    options: Mapping[str, int | bool] = field(default_factory=dict)
    """num_warps, num_stages, matrix_instr_nonkdim ..."""
    unaligned: tuple[str, ...] = ()
    """Pointers and integers that are not divisible by 16; all others are."""


@dataclass(frozen=True)
class Compiled:
    """What became of a job. Everything but ``error`` and ``seconds`` is empty where compiling failed."""

    error: str = ""
    """Why there is no code: the last line of what the compiler raised."""
    text: str = ""
    """The assembly that Triton wrote: PTX or AMDGCN."""
    shared_bytes: int = 0
    registers: int = 0
    """32-bit registers of a thread."""
    spill_bytes: int = 0
    """Bytes of a thread's registers that had to be kept in memory."""
    threads: int = 0
    """Threads of a block, those of specialised warps among them."""
    tensor_columns: int = 0
    """Columns of Blackwell's tensor memory."""
    seconds: float = 0.0


def compile_all(jobs: Sequence[Job]) -> dict[str, Compiled]:
    """Job name -> result."""
    assert len({job.name for job in jobs}) == len(jobs), "two jobs have one name"
    shares = iter(list(jobs))  # next() on it is atomic: each process takes the next job when it has finished one

    def work(_: int) -> dict[str, Compiled]:
        with Worker() as worker:
            return {job.name: worker.compile(job) for job in shares}

    with ThreadPoolExecutor(PROCESSES) as pool:
        return {name: made for part in pool.map(work, range(PROCESSES)) for name, made in part.items()}


def cannot_compile(chip: str) -> str | None:
    """Why the installed Triton has no compiler for the chip, None if it has: tests skip with this."""
    version = importlib.metadata.version("triton")
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    amd = Path(_triton_folder(), "backends", "amd", "compiler.py")
    if CHIPS[chip].backend == "hip" and "ld.lld not found" in amd.read_text() and not Path("/opt/rocm/llvm/bin/ld.lld").exists():
        return f"Triton {version} links AMD code with ROCm's own ld.lld, which is not here"
    if CHIPS[chip].backend == "cuda" and int(CHIPS[chip].arch) >= 100 and numbers < (3, 3):
        return f"Triton {version} does not know {chip}; 3.3 is the first that does"
    return None


def broken_limits(job: Job, made: Compiled, tensor_kernel: bool = False) -> list[str]:
    """What keeps the kernel from running well on the chip: no code, spilled registers, or more than a block can have.

    ``tensor_kernel``: it multiplies matrices, so one of few registers does nothing.
    """
    chip = CHIPS[job.chip]
    if made.error:
        return [f"does not compile: {made.error}"]
    wrong = []
    if made.spill_bytes:
        wrong.append(f"spills {made.spill_bytes} bytes a thread")
    if made.shared_bytes > chip.shared_bytes:
        wrong.append(f"{made.shared_bytes} bytes of shared memory, of {chip.shared_bytes}")
    if tensor_kernel and 0 < made.registers < FEWEST_TENSOR_REGISTERS:
        wrong.append(f"{made.registers} registers a thread: a kernel that does nothing")
    if made.tensor_columns > TENSOR_COLUMNS:
        wrong.append(f"{made.tensor_columns} columns of tensor memory, of {TENSOR_COLUMNS}")
    if not 0 < made.registers <= chip.registers_per_thread:
        wrong.append(f"{made.registers} registers a thread, of {chip.registers_per_thread}")
    if made.registers * made.threads > chip.registers_per_block:
        wrong.append(f"{made.threads} threads with {made.registers} registers each, of {chip.registers_per_block} a block")
    return wrong


class Worker:
    """A process that compiles one job after another, and is replaced when it dies."""

    def __enter__(self) -> Worker:
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def compile(self, job: Job) -> Compiled:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(dataclasses.asdict(job)) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return Compiled(**json.loads(answer))
        code = self.process.wait()
        self.errors.seek(0)
        words = (self.errors.read().strip().splitlines() or ["it said nothing"])[-1]
        self.process.stdout.close()
        self.errors.close()
        self.__enter__()
        return Compiled(error=f"the compiler died with exit status {code}: {words}")


def compile_one(job: Job) -> Compiled:
    """Compile here and now."""
    began = time.perf_counter()
    chip = CHIPS[job.chip]
    try:
        made = _compile(job, chip)
        compiled = _read_nvidia(made, chip) if chip.backend == "cuda" else _read_amd(made)
    except Exception as error:  # Triton raises many kinds, RuntimeError from C++ among them
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        compiled = Compiled(error=f"{type(error).__name__}: {lines[-1]}")
    return dataclasses.replace(compiled, seconds=round(time.perf_counter() - began, 2))


def _compile(job: Job, chip: Chip) -> Any:
    triton: Any = importlib.import_module("triton")
    compiler: Any = importlib.import_module("triton.compiler")
    backends: Any = importlib.import_module("triton.backends.compiler")
    module, name = job.kernel.split(":")
    function = getattr(importlib.import_module(module), name)()
    missing = [arg for arg in function.arg_names if arg not in job.constants and arg not in job.types]
    assert not missing, f"the job gives no type for {', '.join(missing)}"
    free = [arg for arg in function.arg_names if arg not in job.constants]
    aligned = [
        i
        for i, arg in enumerate(function.arg_names)
        if arg in free and arg not in job.unaligned and re.match(r"\*|i32$|i64$", job.types[arg])
    ]
    if hasattr(backends, "AttrsDescriptor"):  # Triton 3.2 and older
        attributes = backends.AttrsDescriptor.from_hints(dict.fromkeys(aligned, 16))
        types = {arg: job.types[arg] for arg in free}
        source = compiler.ASTSource(function, types, constants=dict(job.constants), attrs=attributes)
    else:
        # On AMD a tensor below 2 GB is marked: its loads become buffer loads.
        near = [["tt.pointer_range", 32]] if chip.backend == "hip" else []
        attributes = {(i,): [["tt.divisibility", 16], *(near if job.types[function.arg_names[i]].startswith("*") else [])] for i in aligned}
        types = {arg: job.types[arg] if arg in free else "constexpr" for arg in function.arg_names}
        source = compiler.ASTSource(function, types, constexprs=dict(job.constants), attrs=attributes)
    target = backends.GPUTarget(chip.backend, chip.arch, chip.warp_size)
    return triton.compile(source, target=target, options={"enable_fp_fusion": True, **job.options})


def _read_nvidia(made: Any, chip: Chip) -> Compiled:
    """Registers and stack as the cubin declares them (``cuobjdump`` ships with Triton): what the driver will see.

    A stack need not be spills, so where there is one ptxas is asked again, with -v.
    """
    ptx = made.asm["ptx"]
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(made.asm["cubin"])
        usage = _output(_nvidia_tool("cuobjdump"), "-res-usage", str(cubin))
        registers = int(_found(r"REG:(\d+)", usage))
        spills = 0
        if int(_found(r"STACK:(\d+)", usage)) + int(_found(r"LOCAL:(\d+)", usage)):
            source = Path(folder, "kernel.ptx")
            source.write_text(ptx)
            name = _found(r"\.target (sm_[0-9a-z]+)", ptx)
            said = _output(_ptxas(int(chip.arch)), "-v", f"--gpu-name={name}", str(source), "-o", str(cubin))
            spills = sum(int(n) for n in re.findall(r"(\d+) bytes spill", said))
    threads = [int(n) for n in re.findall(r"\.(?:maxntid|reqntid) (\d+)", ptx)]
    return Compiled("", ptx, int(made.metadata.shared), registers, spills, max(threads), int(getattr(made.metadata, "tmem_size", 0) or 0))


def _read_amd(made: Any) -> Compiled:
    """What the code object's metadata declare: "AMDHSA Code Object V5 Metadata" in LLVM's user guide for the AMDGPU backend."""
    text = made.asm["amdgcn"]
    spills = sum(4 * int(n) for n in re.findall(r"\.[vs]gpr_spill_count: +(\d+)", text))
    threads = int(_found(r"\.max_flat_workgroup_size: +(\d+)", text))
    return Compiled("", text, int(made.metadata.shared), int(_found(r"\.vgpr_count: +(\d+)", text)), spills, threads)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, f"no {pattern} in the compiler's output"
    return match.group(1)


def _nvidia_tool(name: str) -> str:
    return str(Path(_triton_folder(), "backends", "nvidia", "bin", name))


def _triton_folder() -> str:
    return os.path.dirname(str(importlib.import_module("triton").__file__))


def _ptxas(arch: int) -> str:
    """The assembler that the installed Triton uses for the chip: from 3.6 on there are two."""
    backend: Any = importlib.import_module("triton.backends.nvidia.compiler")
    if not hasattr(backend, "get_ptxas"):  # Triton 3.2
        return _nvidia_tool("ptxas")
    return str(backend.get_ptxas(*[arch][: backend.get_ptxas.__code__.co_argcount]).path)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def serve(lines: Iterable[str]) -> None:
    """Compile the jobs that come line by line, and print each result as it is ready. Whatever else is printed goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in lines:
        print(json.dumps(dataclasses.asdict(compile_one(Job(**json.loads(line))))), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.stdin)
