"""The Triton kernels without a GPU: right in Triton's interpreter. What they compile to: ``test_triton_<room>.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chipassay.kernels.backends import INTERPRETER_ONLY, installed, interpreting
from chipassay.kernels.kernel import Target, kernels
from chipassay.kernels.matmul import MatmulCase

pytestmark = pytest.mark.skipif(
    not (installed("triton") and installed("torch")), reason="triton is not installed: pip install triton (Linux, with torch)"
)

PROCESSES = 2

FEWEST_CHECKS = 1
"""Of each kernel; the store that measures a launch has a single case. A kernel that no case of the tests reaches would pass them all."""
FEWEST_RANDOM = 10
"""Of each kernel; the store has but one case."""


def test_every_triton_kernel_is_right_in_the_interpreter() -> None:
    script = Path(__file__).with_name("interpret_triton.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    commands = [[sys.executable, str(script), str(first), str(PROCESSES)] for first in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        done = list(
            pool.map(lambda command: subprocess.run(command, env=environment, capture_output=True, text=True, check=False), commands)
        )
    assert [one.stderr for one in done if one.returncode != 0] == []
    results = [json.loads(line) for one in done for line in one.stdout.splitlines()]
    assert [(name, case, verdict) for name, case, verdict, reason in results if verdict not in ("passed", "refused")] == []
    checked = Counter(name for name, _, verdict, _ in results if verdict == "passed")
    lacking = {k.name: checked[k.name] for k in kernels(backend="triton") if checked[k.name] < FEWEST_CHECKS}
    assert lacking == {}, [result for result in results if result[0] in lacking]


def test_every_triton_kernel_is_right_on_random_cases_in_the_interpreter() -> None:
    """Products have a test of their own, in test_triton_matmul.py."""
    script = Path(__file__).with_name("interpret_random.py")
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    checked = [json.loads(line) for line in done.stdout.splitlines()]
    assert {name for name, _, _ in checked} == {k.name for k in kernels(backend="triton") if not k.op.endswith("matmul")}
    few = [(name, count, reasons) for name, count, reasons in checked if count < FEWEST_RANDOM and name != "triton.store"]
    # Only a Triton too old for a kernel is a reason to try none.
    assert [found for found in few if found[1] or not any("is installed" in reason for reason in found[2])] == []


def test_outside_the_interpreter_triton_refuses_a_cpu() -> None:
    if interpreting():
        pytest.skip("TRITON_INTERPRET is set")
    case = MatmulCase(m=8, n=8, k=8, dtype="fp32")
    assert {kernel.refuses(case, Target("cpu")) for kernel in kernels("matmul", "triton")} == {INTERPRETER_ONLY}
