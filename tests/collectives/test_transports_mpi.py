"""MPI between real processes, started by mpiexec: every pattern, dtype and placement arrives exactly."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from chipassay.collectives.pattern import patterns
from chipassay.collectives.transport import Ask, transports

from .test_transports import PROGRAM, outcome, started

MPI = transports()["mpi4py"]
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"

needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or not MPIEXEC.exists(),
    reason="mpi4py and mpich are not installed in this environment",
)


@pytest.fixture(scope="module", params=[2, 3])
def mpi(request, tmp_path_factory):
    """What every rank of an MPI job of so many wrote."""
    folder = tmp_path_factory.mktemp("mpi")
    command = [str(MPIEXEC), "-n", str(request.param), sys.executable, str(PROGRAM), "mpi4py", "-", "-", str(folder)]
    found = outcome([started(command)], folder)
    assert len(found) == request.param
    return found


@needs_mpi
def test_mpi_delivers_every_pattern_dtype_and_placement_exactly(mpi):
    assert [case for rank in mpi for case in rank["results"] if case["wrong"]] == []
    carried = {(case["pattern"], case["dtype"]) for case in mpi[0]["results"] if not case["refusal"]}
    # Three of the eleven patterns sum, for which four of the seven dtypes have no type in MPI.
    assert len({pattern for pattern, _ in carried}) == 11
    assert len(carried) == 11 * 7 - 3 * 4


@needs_mpi
def test_the_row_can_name_the_mpi_library(mpi):
    assert set(mpi[0]["versions"]) == {"mpi4py", "mpich"}


@needs_mpi
def test_a_process_that_mpi_does_not_count_as_the_job_does_is_told_so(tmp_path):
    process = started([sys.executable, str(PROGRAM), "mpi4py", "0", "2", str(tmp_path)])
    _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"MPI counts this process as rank 0 of 1, chipassay as rank 0 of 2" in words


def test_only_what_mpi_has_no_type_or_no_call_for_is_refused():
    refused = {
        (pattern.name, dtype, in_place)
        for pattern in patterns().values()
        for dtype in ("fp64", "fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8")
        for in_place in ((False,) if pattern.in_place is None else (False, True))
        if MPI.lacks(Ask(pattern.name, pattern.reduces, dtype, in_place, "call", "cpu"))
    }
    small = ("fp16", "bf16", "fp8_e4m3", "fp8_e5m2")
    every = (*small, "fp32", "fp64", "int8")
    # MPI 4.1: section 3.2.2 has no float under 32 bits in C; MPI_Bcast takes one buffer; MPI_Reduce_scatter_block with MPI_IN_PLACE
    # puts the result where the input began.
    assert refused == {
        *((name, dtype, in_place) for name in ("all_reduce", "reduce", "reduce_scatter") for dtype in small for in_place in (False, True)),
        *(("reduce_scatter", dtype, True) for dtype in every),
        *(("broadcast", dtype, False) for dtype in every),
    }


def test_what_is_missing_is_said_before_mpi_is_touched(monkeypatch):
    found = {"torch": SimpleNamespace()}
    monkeypatch.setattr("importlib.util.find_spec", found.get)
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert "between CPUs only" in MPI.missing("cuda")
    assert "mpi4py is not installed: install chipassay[mpi]" in MPI.missing("cpu")
    found["mpi4py"] = SimpleNamespace()
    assert "mpirun -n 2" in MPI.missing("cpu")
    monkeypatch.setenv("PMI_RANK", "0")
    assert MPI.missing("cpu") is None
    # MPI_Init, which importing it calls, would make this process an MPI rank.
    assert "mpi4py.MPI" not in sys.modules
