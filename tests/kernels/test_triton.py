"""The Triton kernels without a GPU: right in Triton's interpreter, and compiled ahead of time for sm_80 and sm_90."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from chipassay.kernels.attention import triton as attention
from chipassay.kernels.backends import INTERPRETER_ONLY, installed, interpreting
from chipassay.kernels.kernel import Target, kernels
from chipassay.kernels.matmul import MatmulCase
from chipassay.kernels.matmul import triton as matmul
from chipassay.kernels.memory import triton as memory

pytestmark = pytest.mark.skipif(
    not (installed("triton") and installed("torch")), reason="triton is not installed: pip install triton (Linux, with torch)"
)


def test_every_triton_kernel_is_right_in_the_interpreter() -> None:
    script = Path(__file__).with_name("interpret_triton.py")
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result for result in results if result[2] != "passed"] == []
    assert Counter(name for name, _, _ in results) == {"triton.matmul": 36, "triton.attention": 16, "triton.copy": 10, "triton.triad": 6}


def test_outside_the_interpreter_triton_refuses_a_cpu() -> None:
    if interpreting():
        pytest.skip("TRITON_INTERPRET is set")
    (kernel,) = kernels("matmul", "triton")
    assert kernel.refuses(MatmulCase(m=8, n=8, k=8, dtype="fp32"), Target("cpu")) == INTERPRETER_ONLY


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, Any], arch: int, **options: int) -> Any:
    """The kernel compiled for an NVIDIA architecture that need not be here, pointers and sizes divisible by 16."""
    if interpreting():
        pytest.skip("TRITON_INTERPRET is set")
    triton: Any = importlib.import_module("triton")
    compiler: Any = importlib.import_module("triton.compiler")
    targets: Any = importlib.import_module("triton.backends.compiler")
    function = kernel()
    signature = {name: "constexpr" if name in constants else types[name] for name in function.arg_names}
    divisible = [i for i, name in enumerate(function.arg_names) if signature[name] == "i32" or signature[name].startswith("*")]
    aligned = {(i,): [["tt.divisibility", 16]] for i in divisible}
    source = compiler.ASTSource(function, signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=targets.GPUTarget("cuda", arch, 32), options={"enable_fp_fusion": True, **options})


def split(config: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Tile sizes, and what the compiler is told beside them."""
    return {k: v for k, v in config.items() if k.startswith("BLOCK")}, {k: v for k, v in config.items() if not k.startswith("BLOCK")}


ROW_MAJOR = {"stride_ak": 1, "stride_bn": 1}
"""Triton makes a stride of 1 a constant."""

SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}
"""Most shared memory a block can have: CUDA C++ Programming Guide, table of technical specifications per compute capability."""


@pytest.mark.parametrize(("arch", "instruction"), [(80, "mma.sync"), (90, "wgmma")])
@pytest.mark.parametrize("config", [matmul.CONFIGS[0], matmul.CONFIGS[-1]], ids=["smallest", "largest"])
def test_the_matmul_compiles_to_tensor_core_instructions(arch: int, instruction: str, config: dict[str, int]) -> None:
    blocks, options = split(config)
    types = {**dict.fromkeys("abc", "*bf16"), **dict.fromkeys(("M", "N", "K"), "i32")}
    types |= dict.fromkeys(("stride_am", "stride_bk"), "i32")
    made = compiled(matmul.tile, types, {"PRECISION": "ieee", "WIDEN": False, "GROUP": 8, **ROW_MAJOR, **blocks}, arch, **options)
    assert instruction in made.asm["ptx"]
    assert len(made.asm["cubin"]) > 0
    assert made.metadata.shared <= SHARED_BYTES[arch]


@pytest.mark.parametrize(("precision", "tensor_cores"), [("ieee", False), ("tf32", True)])
def test_an_fp32_matmul_uses_tf32_only_when_asked(precision: str, tensor_cores: bool) -> None:
    blocks, options = split(matmul.CONFIGS[0])
    types = {**dict.fromkeys("abc", "*fp32"), **dict.fromkeys(("M", "N", "K"), "i32")}
    types |= dict.fromkeys(("stride_am", "stride_bk"), "i32")
    made = compiled(matmul.tile, types, {"PRECISION": precision, "WIDEN": False, "GROUP": 8, **ROW_MAJOR, **blocks}, 80, **options)
    assert ("tf32" in made.asm["ptx"]) is tensor_cores
    assert ("fma.rn.f32" in made.asm["ptx"]) is not tensor_cores


@pytest.mark.parametrize(("arch", "instruction"), [(80, "mma.sync"), (90, "wgmma")])
def test_the_attention_compiles_to_tensor_core_instructions(arch: int, instruction: str) -> None:
    blocks, options = split(attention.CONFIGS[1])
    types = {**dict.fromkeys("qkvo", "*bf16"), **dict.fromkeys(("SEQ_Q", "SEQ_KV", "HEADS"), "i32"), "scale": "fp32"}
    constants = {"HEAD_DIM": 64, "DIM": 64, "GROUP": 4, "CAUSAL": True, "PRECISION": "ieee", "WIDEN": False, **blocks}
    made = compiled(attention.tile, types, constants, arch, **options)
    assert instruction in made.asm["ptx"]
    assert len(made.asm["cubin"]) > 0
    assert made.metadata.shared <= SHARED_BYTES[arch]


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("kernel", [memory.copy_block, memory.triad_block], ids=["copy", "triad"])
def test_copy_and_triad_compile_to_16_byte_accesses(arch: int, kernel: Any) -> None:
    types = {**dict.fromkeys("abc", "*fp32"), "elements": "i32", "scalar": "fp32"}
    made = compiled(kernel, types, {"BLOCK": memory.BLOCK}, arch)
    assert "ld.global.v4" in made.asm["ptx"]
    assert "st.global.v4" in made.asm["ptx"]
