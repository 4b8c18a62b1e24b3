"""Which torch fits which machine, decided from made-up facts; what the tools print is as their makers document it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipassay.runners.setup_environment.decisions import (
    Attempt,
    Facts,
    Wish,
    accelerator_extra,
    accelerator_packages,
    constraints,
    is_current,
    release,
    reuses_torch,
    torch_attempts,
)
from chipassay.runners.setup_environment.looking import cuda_of_driver, lowest_capability

WISH = Wish(Path(".venv"))
H100 = Facts(nvidia=True, driver_cuda=(13, 0), capability=(9, 0))
V100 = Facts(nvidia=True, driver_cuda=(12, 4), capability=(7, 0))


def report(**versions: str) -> dict[str, Any]:
    return {"install": [{"metadata": {"name": name.replace("_", "-"), "version": version}} for name, version in versions.items()]}


@pytest.mark.parametrize("device", ["cuda", "rocm", "xpu", "mps", "npu"])
def test_a_torch_that_drives_an_accelerator_is_reused(device: str) -> None:
    assert reuses_torch(Facts(torch="2.6.0", device=device), WISH)


def test_a_torch_that_drives_no_accelerator_is_not_reused() -> None:
    assert not reuses_torch(Facts(torch="2.6.0"), WISH)


@pytest.mark.parametrize("asked", [{"torch_index": "file:///wheels"}, {"torch_backend": "cu126"}])
def test_asking_for_another_build_overrules_the_torch_that_is_there(asked: dict[str, str]) -> None:
    assert not reuses_torch(Facts(torch="2.6.0", device="cuda"), replace(WISH, **asked))


def test_without_an_accelerator_every_pip_attempt_refuses_cuda_packages_and_uv_takes_the_cpu_build() -> None:
    attempts = torch_attempts(Facts(), WISH)
    assert [attempt.tool for attempt in attempts] == ["pip", "uv"]
    assert attempts[0].cpu_only
    assert attempts[1].backend == "cpu"


def test_an_index_given_by_the_user_is_the_only_source_and_still_brings_no_cuda_to_a_machine_without_one() -> None:
    asked = replace(WISH, torch_index="file:///wheels")
    assert torch_attempts(Facts(), asked) == (Attempt("pip", WISH.torch, index="file:///wheels", cpu_only=True),)
    assert torch_attempts(H100, asked) == (Attempt("pip", WISH.torch, index="file:///wheels"),)


def test_a_backend_given_by_the_user_is_the_only_one_tried() -> None:
    assert torch_attempts(V100, replace(WISH, torch_backend="rocm6.4")) == (Attempt("uv", WISH.torch, backend="rocm6.4"),)


@pytest.mark.parametrize("capability", [(6, 0), (7, 0)])
def test_chips_before_turing_get_the_last_torch_with_kernels_for_them(capability: tuple[int, int]) -> None:
    for attempt in torch_attempts(replace(V100, capability=capability), WISH):
        assert attempt.requirement == "torch==2.7.1"
        assert attempt.backend in ("cu126", "")


def test_turing_and_newer_get_the_build_that_fits_the_driver() -> None:
    for capability in ((7, 5), (8, 0), (9, 0), (12, 0)):
        assert torch_attempts(replace(H100, capability=capability), WISH)[0] == Attempt("uv", WISH.torch, backend="auto")


def test_a_driver_for_cuda_12_never_falls_back_to_a_default_build_for_cuda_13() -> None:
    fallbacks = [attempt for attempt in torch_attempts(replace(H100, driver_cuda=(12, 8)), WISH) if attempt.tool == "pip"]
    assert [release(attempt.requirement.partition("==")[2]) < (2, 11) for attempt in fallbacks] == [True]


def test_a_driver_for_cuda_11_gets_a_build_for_cuda_11() -> None:
    assert [attempt.backend for attempt in torch_attempts(replace(H100, driver_cuda=(11, 4)), WISH)] == ["cu118"]


@pytest.mark.parametrize("machine", [Facts(), H100, V100, replace(H100, driver_cuda=(11, 4)), Facts(amd=True)])
def test_a_torch_named_by_the_user_is_never_exchanged_for_another(machine: Facts) -> None:
    attempts = torch_attempts(machine, replace(WISH, torch="torch==2.9.0"))
    assert {attempt.requirement for attempt in attempts} == {"torch==2.9.0"}


def test_an_amd_machine_asks_for_the_detected_build_before_the_cpu_build() -> None:
    backends = [attempt.backend for attempt in torch_attempts(Facts(amd=True), WISH)]
    assert backends[0] == "auto"
    assert backends[-1] == "cpu"


@pytest.mark.parametrize(
    ("installed", "extra"),
    [
        (Facts(torch="2.13.0+cu130", device="cuda", torch_cuda="13.0"), "cuda13"),
        (Facts(torch="2.6.0a0+ecf3bae40a.nv25.01", device="cuda", torch_cuda="12.8"), "cuda12"),
        (Facts(torch="2.7.1+cu118", device="cuda", torch_cuda="11.8"), None),
        (Facts(torch="2.1.0+cu121", device="cuda", torch_cuda="12.1"), None),
        (Facts(torch="2.13.0+cu130", torch_cuda="13.0"), None),
        (Facts(torch="2.13.0", device="rocm"), None),
        (Facts(), None),
    ],
)
def test_cupy_follows_the_cuda_of_the_torch_that_is_installed(installed: Facts, extra: str | None) -> None:
    assert accelerator_extra(installed) == extra


def test_torch_and_its_triton_are_pinned_to_what_is_there() -> None:
    assert constraints(Facts(torch="2.6.0+cu124", triton="3.2.0", numpy="2.1.0"), reused=True) == ["torch==2.6.0+cu124", "triton==3.2.0"]


def test_a_reused_torch_built_for_numpy_1_keeps_numpy_1() -> None:
    assert "numpy<2" in constraints(Facts(torch="2.1.0", numpy="1.26.4"), reused=True)
    assert "numpy<2" not in constraints(Facts(torch="2.13.0", numpy="1.26.4"), reused=False)


def test_without_torch_nothing_is_pinned() -> None:
    assert constraints(Facts(numpy="2.4.0"), reused=False) == []


def test_the_requirements_of_a_cuda_torch_are_recognised_under_old_and_new_names() -> None:
    found = accelerator_packages(report(torch="2.13.0", nvidia_cublas_cu12="12.8", cuda_toolkit="13.0.2", triton="3.6.0", sympy="1.14"))
    assert found == ["nvidia-cublas-cu12 12.8", "cuda-toolkit 13.0.2", "triton 3.6.0"]


def test_an_accelerator_build_is_recognised_by_its_local_version_alone() -> None:
    assert accelerator_packages(report(torch="2.7.1+cu126")) == ["torch 2.7.1+cu126"]


def test_a_cpu_torch_and_what_it_needs_are_let_through() -> None:
    assert accelerator_packages(report(torch="2.13.0+cpu", filelock="3.1", networkx="3.6", Jinja2="3.1.6")) == []


def test_an_environment_is_current_only_with_the_same_key_and_every_wished_extra() -> None:
    stamp = {"key": "a", "extras": ["report", "test"], "notes": []}
    assert is_current(stamp, "a", ["report"])
    assert not is_current(stamp, "a", ["report", "dev"])
    assert not is_current(stamp, "b", ["report"])
    assert not is_current(None, "a", [])


def test_the_cuda_version_of_the_driver_is_read_from_each_form_of_its_listing() -> None:
    assert cuda_of_driver("| NVIDIA-SMI 470.82.01  Driver Version: 470.82.01  CUDA Version: 11.4 |") == (11, 4)
    assert cuda_of_driver("CUDA Version                              : 13.0") == (13, 0)
    assert cuda_of_driver("CUDA UMD Version: 13.1") == (13, 1)
    assert cuda_of_driver("CUDA Version: N/A") is None


def test_the_oldest_chip_of_a_mixed_machine_decides() -> None:
    assert lowest_capability("9.0\n10.0\n7.5\n") == (7, 5)
    assert lowest_capability("[N/A]\n") is None
