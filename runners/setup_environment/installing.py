"""Makes or mends the environment: the venv, a torch, chipassay, and the stamp that lets the next call do nothing."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .decisions import Attempt, Wish, accelerator_extra, accelerator_packages, constraints, is_current, reuses_torch, torch_attempts
from .looking import look_at_machine, output_of, own_packages, probe

ROOT = Path(__file__).resolve().parents[2]
OLDEST_PYTHON = (3, 10)
VERSION = "{}.{}".format(*sys.version_info)
STAMP = "chipassay-setup.json"


class SetupError(Exception):
    """The environment cannot be made; says the mend."""


def say(message: str) -> None:
    print(f"setup: {message}", file=sys.stderr, flush=True)


def python_of(venv: Path) -> Path:
    return venv / "bin" / "python"


def pip(venv: Path, *arguments: str) -> bool:
    """Runs the environment's pip; whether it succeeded. Settings that would install elsewhere than into the environment are overruled."""
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run([str(python_of(venv)), "-m", "pip", *arguments], env=environment, check=False).returncode == 0


def is_usable(venv: Path, borrow: bool) -> bool:
    """Whether there is an environment of this Python's version with pip, that sees the packages under it only if it should."""
    config = venv / "pyvenv.cfg"
    if not config.exists():
        return False
    borrows = re.search(r"^include-system-site-packages\s*=\s*true", config.read_text(), re.M) is not None
    version = output_of([str(python_of(venv)), "-c", "import pip, sys; print('{}.{}'.format(*sys.version_info))"])
    return borrows == borrow and version is not None and version.strip() == VERSION


def make_venv(venv: Path, python: str, borrow: bool) -> None:
    """An environment of this Python's version, kept if it already is one. `borrow` lets it see the packages of `python`.

    An environment made from another one sees only the system's packages, so the other's folders are named in a path file.
    Only what an earlier call made is ever removed: the stamp, written first, tells.
    """
    if is_usable(venv, borrow):
        return
    ours = (venv / STAMP).exists()
    if venv.exists() and any(venv.iterdir()) and not ours:
        raise SetupError(
            f"{venv} was not made here and is no virtual environment with pip and Python {VERSION}; "
            "remove it, or name another place: make ... VENV=path"
        )
    say(f"making {venv} with Python {sys.version.split()[0]}" + (", on top of its packages" if borrow else ""))
    shutil.rmtree(venv, ignore_errors=True)
    venv.mkdir(parents=True)
    write_stamp(venv, {"key": "", "extras": [], "notes": [], "python": python})
    command = [python, "-m", "venv", *(["--system-site-packages"] if borrow else []), str(venv)]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise SetupError(
            f"Python's venv module could not make {venv}; on Debian and Ubuntu: apt install python3-venv, "
            "else give a Python that has it: make ... PYTHON=path"
        )
    around = own_packages(python) if borrow else []
    if around:
        (Path(own_packages(python_of(venv))[0]) / "environment_around.pth").write_text("\n".join(around) + "\n")


def try_attempt(attempt: Attempt, wish: Wish) -> bool:
    """Tries one way to get torch; whether it is there now."""
    index = ["--index-url", attempt.index] if attempt.index else []
    if attempt.tool == "uv":
        say(f"installing {attempt.requirement} with uv for the backend {attempt.backend}")
        command = [str(python_of(wish.venv)), "-m", "uv", "pip", "install", "--python", str(python_of(wish.venv))]
        command += [f"--torch-backend={attempt.backend}", *index, attempt.requirement]
        return pip(wish.venv, "install", "--quiet", "uv", *wish.pip_args) and subprocess.run(command, check=False).returncode == 0
    if attempt.cpu_only:
        options = ["install", "--dry-run", "--quiet", "--report", "-", *index, *wish.pip_args, attempt.requirement]
        report = output_of([str(python_of(wish.venv)), "-m", "pip", *options], timeout_s=600)
        if report is None:
            say(f"pip finds no {attempt.requirement} for this Python")
            return False
        if unwanted := accelerator_packages(json.loads(report)):
            say(f"pip would bring {len(unwanted)} packages for an accelerator that is not here ({unwanted[0]}, ...): not installed")
            return False
    say(f"installing {attempt.requirement} with pip")
    return pip(wish.venv, "install", *index, *wish.pip_args, attempt.requirement)


def install(wish: Wish, python: str) -> list[str]:
    """Brings the environment to what is wished. Returns notes: what is missing, and the mend."""
    machine, base = look_at_machine(), probe(python)
    notes = []
    reuse = reuses_torch(base, wish)
    make_venv(wish.venv, python, borrow=reuse)
    if reuse and probe(python_of(wish.venv)).torch != base.torch:
        say(f"torch {base.torch} of {python} cannot be seen from {wish.venv}, so another is installed")
        reuse = False
        make_venv(wish.venv, python, borrow=False)
    pip(wish.venv, "install", "--quiet", "--upgrade", "pip")  # older ones cannot report before they download
    if reuse:
        say(f"reusing torch {base.torch}, which drives this machine's {base.device}")
    elif wish.torch and not any(try_attempt(attempt, wish) for attempt in torch_attempts(machine, wish)):
        notes.append(
            "NO TORCH could be installed, so only the NumPy backend measures, on the CPU. Mend: make bench TORCH_INDEX=URL, "
            "the URL of a package index that serves a torch for this machine and Python"
        )
    installed = probe(python_of(wish.venv))
    if installed.torch and installed.device is None and (machine.nvidia or machine.amd):
        notes.append(
            f"torch {installed.torch} does not drive the GPU of this machine, so its CPU is measured. Mend: "
            "make clean, then make bench TORCH=torch==VERSION TORCH_BACKEND=cu126 (or rocm6.4, ...)"
        )
    pins = wish.venv / "constraints.txt"
    pins.write_text("".join(f"{pin}\n" for pin in constraints(installed, reuse)))
    say(f"installing chipassay with {', '.join(wish.extras) or 'no extras'}")
    if not pip(wish.venv, "install", "--quiet", "-c", str(pins), *wish.pip_args, "-e", f"{ROOT}[{','.join(wish.extras)}]"):
        raise SetupError("pip could not install chipassay (its message is above); give pip what it lacks: make ... PIP_ARGS='--proxy URL'")
    extra = accelerator_extra(installed)
    if extra and not pip(wish.venv, "install", "--quiet", "-c", str(pins), *wish.pip_args, "-e", f"{ROOT}[{extra}]"):
        notes.append(f"the extra {extra} (CuPy, NVML) could not be installed: no CuPy kernels, no clocks and power")
    return notes


def key_of(wish: Wish) -> str:
    """Changes with whatever an installed environment depends on."""
    digest = hashlib.sha256("\0".join((str(ROOT), sys.version, wish.torch, wish.torch_index, wish.torch_backend, *wish.pip_args)).encode())
    for file in (ROOT / "pyproject.toml", ROOT / "setup.py", *sorted(Path(__file__).parent.glob("*.py"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def read_stamp(venv: Path) -> dict[str, Any] | None:
    try:
        stamp = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return None
    return stamp if python_of(venv).exists() and {"key", "extras", "notes", "python"} <= set(stamp) else None


def write_stamp(venv: Path, stamp: dict[str, Any]) -> None:
    (venv / STAMP).write_text(json.dumps(stamp))


def starting_python(venv: Path) -> str:
    """The Python to make the environment with: this one, unless the environment itself is activated and runs this."""
    if Path(sys.prefix).resolve() != venv:
        return sys.executable
    stamp = read_stamp(venv)
    return str(stamp["python"]) if stamp else getattr(sys, "_base_executable", sys.executable)


def parse(arguments: Sequence[str] | None) -> Wish:
    parser = argparse.ArgumentParser(description="Makes the virtual environment for chipassay, or leaves it as it is when it is current.")
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="where the environment is")
    parser.add_argument("--extras", default="report", help="extras of chipassay, joined by commas")
    parser.add_argument("--torch", default=Wish.torch, help="the torch to install where none is reused; empty for none")
    parser.add_argument("--torch-index", default="", help="URL of a package index to take torch from")
    parser.add_argument("--torch-backend", default="", help="build of torch: cpu, cu126, rocm6.4, ... as uv names them")
    parser.add_argument("--pip-args", default="", help="more options for pip, as one string")
    given = parser.parse_args(arguments)
    extras = tuple(sorted({extra.strip() for extra in given.extras.split(",") if extra.strip()}))
    return Wish(given.venv.resolve(), extras, given.torch, given.torch_index, given.torch_backend, tuple(shlex.split(given.pip_args)))


def main(arguments: Sequence[str] | None = None) -> int:
    if sys.version_info < OLDEST_PYTHON:
        say(f"Python {sys.version.split()[0]} is too old, chipassay needs 3.10 or newer; give one: make ... PYTHON=path")
        return 1
    wish = parse(arguments)
    key, stamp = key_of(wish), read_stamp(wish.venv)
    try:
        if stamp is None or not is_current(stamp, key, wish.extras):
            earlier = set(stamp["extras"]) if stamp else set()
            wish = replace(wish, extras=tuple(sorted({*wish.extras, *earlier})))
            python = starting_python(wish.venv)
            notes = install(wish, python)
            stamp = {"key": key, "extras": wish.extras, "notes": notes, "python": python}
            write_stamp(wish.venv, stamp)
    except SetupError as problem:
        say(str(problem))
        return 1
    for note in stamp["notes"]:
        say(note)
    return 0
