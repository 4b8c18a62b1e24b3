"""The rules of the house that no linter states: light imports, packages that the import contracts can see, examples that run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("kernels", "collectives", "results", "scaling", "runners")
BACKENDS = ("cupy", "jax", "torch", "triton")
OPTIONAL = {*BACKENDS, "aiconfigurator_core", "jinja2", "matplotlib", "openpyxl", "pyarrow", "pynvml", "pytest_benchmark"}
HEAVY = (*BACKENDS, "matplotlib", "pandas", "numpy", "rich", "scipy")
RUN_AS_SCRIPTS = {"__main__"}


def modules() -> list[str]:
    found = []
    for room in ROOMS:
        name = f"chipassay.{room}"
        package = importlib.import_module(name)
        found += [name, *(module.name for module in pkgutil.walk_packages(package.__path__, f"{name}."))]
    return [name for name in found if name.rpartition(".")[2] not in RUN_AS_SCRIPTS]


def loaded_by(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of these packages a fresh Python has loaded after running the code."""
    report = f"\nimport sys\nprint('LOADED', *(name for name in {names!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_a_loaded_package_would_be_seen() -> None:
    assert loaded_by("import json", ("json", "torch")) == ["json"]


def test_the_command_line_module_imports_nothing_heavy() -> None:
    assert loaded_by("import chipassay.runners.cli", HEAVY) == []


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["equate", "--help"]], ids=" ".join)
def test_help_is_shown_without_loading_anything_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['chipassay', *{arguments!r}]\n"
        "from chipassay.runners.cli import main\n"
        "try:\n    code = main()\nexcept SystemExit as end:\n    code = end.code\nassert not code, code"
    )
    assert loaded_by(code, HEAVY) == []


def test_no_module_loads_a_backend_when_it_is_imported() -> None:
    """One process imports them all; modules that need an optional package at import time may fail for its lack, and for nothing else."""
    code = (
        "import importlib\n"
        f"for name in {modules()!r}:\n"
        "    try:\n        importlib.import_module(name)\n"
        f"    except ModuleNotFoundError as missing:\n        assert missing.name.split('.')[0] in {OPTIONAL!r}, missing"
    )
    assert loaded_by(code, BACKENDS) == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_with_modules_is_a_package_that_the_import_contracts_see(room: str) -> None:
    # Examples are projects of their own, for users to copy.
    folders = {file.parent for file in (ROOT / room).rglob("*.py") if "examples" not in file.parts}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_docstrings_hold(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {missing.name}")
    failed, _ = doctest.testmod(module)
    assert failed == 0
