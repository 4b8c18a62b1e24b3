"""Every CUDA source compiles for every chip it is meant for, fits it without spilling, and uses the instructions that it promises."""

from __future__ import annotations

import locale
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from chipassay.kernels.attention import cupy_flash
from chipassay.kernels.attention import cupy_simt as simt_attention
from chipassay.kernels.cuda.program import OPTIONS, Program
from chipassay.kernels.matmul import MatmulCase, cupy_mma, cupy_simt
from chipassay.kernels.memory import cupy as stream

from .nvrtc import Compiled, architectures, compile_source, disassemble, disassembler, library


@dataclass(frozen=True)
class Limits:
    """What one block may take."""

    shared_bytes: int
    registers_per_thread: int = 255
    registers_per_block: int = 65536


LIMITS = {
    60: Limits(48 * 1024),
    70: Limits(96 * 1024),
    75: Limits(64 * 1024),
    80: Limits(163 * 1024),
    90: Limits(227 * 1024),
    100: Limits(227 * 1024),
}
"""CUDA C++ Programming Guide 12.9, "Compute Capabilities", table of technical specifications per compute capability."""

COMPILERS = [("11", 60), ("11", 70), ("12", 75), ("12", 80), ("12", 90), ("12", 100)]
"""One compiler for each chip in which everything is compiled: the oldest that users of old chips have, a newer one for new chips."""

OTHER_COMPILERS = [("12", 60), ("12", 70), ("11", 75), ("13", 75), ("11", 80), ("13", 80), ("11", 90), ("13", 90), ("13", 100)]
"""And some of it in the others, for what a compiler may refuse."""

SHAPE = {"m": 4096, "n": 4096, "k": 4096}


def capability(arch: int) -> tuple[int, int]:
    return arch // 10, arch % 10


def memory_programs() -> list[Program]:
    dtypes = {"copy": stream.STORAGE, "read": ("fp64", "fp32", "fp16"), "scale": stream.ARITHMETIC, "triad": stream.ARITHMETIC}
    return [stream.program(op, dtype) for op in dtypes for dtype in dtypes[op]]


def every_program(arch: int) -> list[Program]:
    on = capability(arch)
    attention = [*simt_attention.every_program(), *cupy_flash.every_program(on)]
    found = [*memory_programs(), *cupy_simt.every_program(on), *cupy_mma.every_program(on), *attention]
    return list({program.text: program for program in found}.values())  # functions of one source are compiled together


def some_programs(arch: int) -> list[Program]:
    """The first of each file and DTYPE."""
    return list({(program.files, dict(program.defines).get("DTYPE")): program for program in reversed(every_program(arch))}.values())


def need(generation: str, arch: int) -> None:
    if library(generation) is None:
        pytest.skip(f"NVRTC of CUDA {generation} is not installed (the test extra brings it)")
    if arch not in architectures(generation):
        pytest.skip(f"the NVRTC of CUDA {generation} that is installed does not know sm_{arch}")


def compile_all(programs: list[Program], generation: str, arch: int) -> list[Compiled]:
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda program: compile_source(program.text, generation, arch, OPTIONS), programs))


def assert_fits(program: Program, compiled: Compiled, arch: int) -> None:
    limits = LIMITS[arch]
    assert compiled.spilled_bytes == 0, f"{program} spills on sm_{arch}"
    assert compiled.registers <= limits.registers_per_thread
    assert compiled.registers * program.threads <= limits.registers_per_block, program
    assert program.shared_bytes <= limits.shared_bytes, program


@pytest.mark.slow
@pytest.mark.parametrize(("generation", "arch"), COMPILERS)
def test_every_program_compiles_and_fits_without_spilling(generation: str, arch: int) -> None:
    need(generation, arch)
    programs = every_program(arch)
    for program, compiled in zip(programs, compile_all(programs, generation, arch), strict=True):
        assert_fits(program, compiled, arch)


@pytest.mark.slow
@pytest.mark.parametrize(("generation", "arch"), OTHER_COMPILERS)
def test_each_source_compiles_with_other_generations_of_cuda(generation: str, arch: int) -> None:
    need(generation, arch)
    programs = some_programs(arch)
    for program, compiled in zip(programs, compile_all(programs, generation, arch), strict=True):
        assert_fits(program, compiled, arch)


def test_a_spill_and_a_broken_source_are_seen() -> None:
    need("12", 80)
    body = "".join(f"x[{i}] = p[{i} * n]; " for i in range(64)) + "".join(f"p[{i}] = x[{i} ^ 5] + x[{i} ^ 9]; " for i in range(64))
    source = f'extern "C" __global__ void __launch_bounds__(1024, 2) f(float* p, int n) {{ float x[64]; {body} }}'
    assert compile_source(source, "12", 80, OPTIONS).spilled_bytes > 0
    with pytest.raises(AssertionError, match="undefined"):
        compile_source('extern "C" __global__ void f() { nothing(); }', "12", 80, OPTIONS)


def mma(arch: int, dtype: str, layout: str) -> Program:
    case = MatmulCase(**SHAPE, dtype=dtype, layout=layout)
    return cupy_mma.program(case, cupy_mma.configs(case, capability(arch))[0], capability(arch))


def flash(arch: int) -> Program:
    return cupy_flash.every_program(capability(arch))[0]


PTX_PROMISES = [
    ("11", 60, stream.program("copy", "fp16"), ["ld.global.cs.v4.u32", "st.global.cs.v4.u32"]),
    ("11", 70, stream.program("read", "fp32"), ["ld.global.nc.L1::no_allocate.v4.u32"]),
    ("11", 60, cupy_simt.program(MatmulCase(**SHAPE, dtype="fp32")), ["fma.rn.f32", "ld.global.v4", "ld.shared.v4"]),
    ("11", 60, cupy_simt.program(MatmulCase(**SHAPE, dtype="fp64")), ["fma.rn.f64"]),
    ("11", 60, cupy_simt.program(MatmulCase(**SHAPE, dtype="fp16"), half2=cupy_simt.CHAIN), ["fma.rn.f16x2"]),
    ("11", 70, mma(70, "fp16", "nn"), ["mma.sync.aligned.m8n8k4.row.row.f32.f16.f16.f32"]),
    ("11", 70, mma(70, "fp16", "nt"), ["mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32"]),
    ("11", 70, mma(70, "fp16", "tn"), ["mma.sync.aligned.m8n8k4.col.row.f32.f16.f16.f32"]),
    ("11", 70, flash(70), ["mma.sync.aligned.m8n8k4.row.col", "mma.sync.aligned.m8n8k4.row.row", "ex2.approx"]),
]
"""For chips that the disassembler at hand no longer knows."""

SASS_PROMISES = [
    ("12", 80, stream.program("copy", "fp16"), [r"LDG\.E\S*\.128", r"STG\.E\S*\.128"]),
    ("12", 90, stream.program("triad", "fp32"), [r"LDG\.E\S*\.128", r"STG\.E\S*\.128", "FFMA"]),
    ("12", 80, cupy_simt.program(MatmulCase(**SHAPE, dtype="fp32")), ["FFMA", r"LDS\.128", r"LDG\.E\S*\.128"]),
    ("12", 80, cupy_simt.program(MatmulCase(**SHAPE, dtype="fp64")), ["DFMA"]),
    ("12", 80, cupy_simt.program(MatmulCase(**SHAPE, dtype="fp16"), half2=cupy_simt.CHAIN), ["HFMA2"]),
    ("12", 75, mma(75, "fp16", "tn"), [r"HMMA\.1688\.F32", r"LDSM\.16\.MT88\.4", r"LDG\.E\S*\.128"]),
    ("12", 75, mma(75, "int8", "nt"), [r"IMMA\.8816"]),
    ("12", 80, mma(80, "fp16", "nn"), [r"HMMA\.16816\.F32", r"LDSM\.16\.MT88\.4", r"LDGSTS\S*\.128"]),
    ("12", 80, mma(80, "bf16", "nt"), [r"HMMA\.16816\.F32\.BF16", r"LDSM\.16\.M88\.4"]),
    ("12", 80, mma(80, "tf32", "nn"), [r"HMMA\.1688\.F32\.TF32"]),
    ("12", 80, mma(80, "int8", "nt"), [r"IMMA\.16832\.S8\.S8"]),
    ("12", 90, mma(90, "fp16", "nn"), [r"HMMA\.16816\.F32", r"LDGSTS\S*\.128"]),
    ("12", 100, mma(100, "bf16", "nn"), [r"HMMA\.16816\.F32\.BF16", r"LDGSTS\S*\.128"]),
    ("12", 80, flash(80), [r"HMMA\.16816\.F32", r"LDGSTS\S*\.128", r"MUFU\.EX2"]),
]


def label(value: object) -> str | None:
    return f"{value.function}:{dict(value.defines).get('DTYPE', '')}" if isinstance(value, Program) else None


@pytest.mark.parametrize(("generation", "arch", "program", "promised"), PTX_PROMISES, ids=label)
def test_promised_instructions_are_in_the_ptx(generation: str, arch: int, program: Program, promised: list[str]) -> None:
    need(generation, arch)
    ptx = compile_source(program.text, generation, arch, OPTIONS).ptx
    assert [words for words in promised if words not in ptx] == []


@pytest.mark.parametrize(("generation", "arch", "program", "promised"), SASS_PROMISES, ids=label)
def test_promised_instructions_are_in_the_machine_code(generation: str, arch: int, program: Program, promised: list[str]) -> None:
    need(generation, arch)
    if disassembler() is None:
        pytest.skip("no nvdisasm here: the Triton wheel for Linux brings it")
    sass = disassemble(compile_source(program.text, generation, arch, OPTIONS).cubin)
    assert [words for words in promised if not re.search(words, sass)] == []
    assert not re.search(r"\b(LDL|STL)\b", sass), "local memory is in use"


def test_the_compiler_leaves_the_locale_as_it_was() -> None:
    generation, arch, program, _ = PTX_PROMISES[0]
    need(generation, arch)
    before = locale.nl_langinfo(locale.CODESET)
    compile_source(program.text, generation, arch, OPTIONS)
    assert locale.nl_langinfo(locale.CODESET) == before
