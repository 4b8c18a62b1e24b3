"""Why a backend cannot run here: each reason names the mend."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chipassay.kernels import backends
from chipassay.kernels.backends import BACKENDS, INTERPRETER_ONLY, installed, library_versions, why_not
from chipassay.kernels.kernel import Target

KINDS = ("cpu", "cuda", "rocm", "xpu", "mps", "npu")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with none of the libraries."""
    monkeypatch.setattr(backends, "installed", lambda name: False)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("backend", "kind", "mend"),
    [
        ("torch", "cuda", "pip install 'chipassay[cuda12]'"),
        ("torch", "rocm", "pip install 'chipassay[rocm]'"),
        ("torch", "cpu", "pip install 'chipassay[torch]'"),
        ("cupy", "cuda", "pip install 'chipassay[cuda12]'"),
        ("triton", "cuda", "pip install triton"),
    ],
)
def test_what_is_not_installed_names_the_way_to_install_it(backend: str, kind: str, mend: str) -> None:
    reason = why_not(backend, Target(kind))
    assert reason is not None
    assert "not installed" in reason
    assert mend in reason


@pytest.mark.usefixtures("bare")
def test_numpy_runs_on_a_bare_machine_on_its_cpu_only() -> None:
    assert why_not("numpy", Target("cpu")) is None
    assert why_not("numpy", Target("cuda")) == "numpy computes on the CPU only; use torch or cupy for a cuda device"


def test_triton_on_a_cpu_is_never_timed() -> None:
    if not installed("triton"):
        pytest.skip("triton is not installed")
    assert why_not("triton", Target("cpu")) == INTERPRETER_ONLY


def test_cupy_is_for_gpus() -> None:
    assert "use torch or numpy" in str(why_not("cupy", Target("cpu")))


@pytest.mark.parametrize("kind", ["cuda", "rocm", "xpu", "mps", "npu"])
def test_a_torch_without_the_device_says_so(kind: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    reason = why_not("torch", Target(kind))
    assert reason is not None
    assert ";" in reason or "it needs" in reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_has_an_answer_for_every_device(backend: str, kind: str) -> None:
    assert why_not(backend, Target(kind)) is None or len(str(why_not(backend, Target(kind)))) > 20


def test_versions_name_the_library_itself() -> None:
    for backend in BACKENDS:
        if installed(backend):
            versions = library_versions(backend)
            assert backend in versions
            assert all(isinstance(version, str) for version in versions.values())


def test_listing_kernels_imports_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from chipassay.kernels.kernel import kernels\n"
        "assert len(kernels()) > 10\n"
        "print([name for name in ('torch', 'triton', 'cupy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_triton_too_old_for_the_kernels_says_what_to_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    from chipassay.kernels import triton_tools

    monkeypatch.setattr(backends, "installed", lambda name: True)
    monkeypatch.setattr(triton_tools, "triton_version", lambda: (3, 1))
    assert why_not("triton", Target("cuda")) == "the kernels need Triton 3.2, and 3.1 is installed; upgrade torch, which brings it"


def test_triton_without_a_c_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed("triton"):
        pytest.skip("triton is not installed")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "install gcc" in str(why_not("triton", Target("cuda")))
