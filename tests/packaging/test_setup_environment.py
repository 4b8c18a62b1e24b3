"""The environment is made once, left alone while it is current, and nothing that was not made here is removed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chipassay.runners.setup_environment import installing
from chipassay.runners.setup_environment.decisions import Attempt, Wish
from chipassay.runners.setup_environment.looking import output_of, own_packages, probe

FAKE_TORCH = """
__version__ = "9.9.0+cu130"
class version: cuda = "13.0"; hip = None
class cuda:
    @staticmethod
    def is_available(): return True
"""


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setup always runs from a checkout, even where the tests run against an installed wheel."""
    monkeypatch.setattr(installing, "ROOT", ROOT)


def stamped(venv: Path, arguments: list[str], **changes: Any) -> None:
    """An environment as an earlier run would have left it."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    key = installing.key_of(installing.parse(["--venv", str(venv), *arguments]))
    installing.write_stamp(venv, {"key": key, "extras": ["report"], "notes": [], "python": sys.executable, **changes})


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[Wish]:
    """What would have been installed, instead of installing it."""
    wishes: list[Wish] = []

    def install(wish: Wish, python: str) -> list[str]:
        wishes.append(wish)
        wish.venv.mkdir(exist_ok=True)
        return ["mind the gap"]

    monkeypatch.setattr(installing, "install", install)
    return wishes


def test_a_current_environment_is_left_as_it_is(tmp_path: Path, installs: list[Wish]) -> None:
    stamped(tmp_path / "venv", [])
    assert installing.main(["--venv", str(tmp_path / "venv")]) == 0
    assert installs == []


def test_what_is_missing_is_said_again_at_every_call(tmp_path: Path, installs: list[Wish], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        installing.main(["--venv", str(tmp_path / "venv"), "--extras", ""])
        assert "mind the gap" in capsys.readouterr().err


@pytest.mark.parametrize("changed", [["--torch", "torch==2.12.0"], ["--torch-index", "file:///w"], ["--pip-args", "--no-cache-dir -v"]])
def test_other_arguments_bring_the_environment_up_to_date(tmp_path: Path, installs: list[Wish], changed: list[str]) -> None:
    stamped(tmp_path / "venv", [])
    assert installing.main(["--venv", str(tmp_path / "venv"), *changed]) == 0
    assert len(installs) == 1


def test_extras_add_up_over_calls_so_that_bench_and_test_do_not_undo_each_other(tmp_path: Path, installs: list[Wish]) -> None:
    stamped(tmp_path / "venv", [])
    installing.main(["--venv", str(tmp_path / "venv"), "--extras", "test"])
    assert installs[0].extras == ("report", "test")
    stamp = json.loads((tmp_path / "venv" / installing.STAMP).read_text())
    assert stamp["extras"] == ["report", "test"]


def test_a_folder_that_is_no_environment_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(installing.SetupError, match="VENV=path"):
        installing.make_venv(tmp_path, sys.executable, borrow=False)
    assert (tmp_path / "thesis.tex").read_text() == "do not lose me"


def test_a_missing_venv_module_is_named_with_its_mend(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(installing.SetupError, match="apt install python3-venv"):
        installing.make_venv(tmp_path / "venv", str(python), borrow=False)


def test_a_torch_in_the_environment_around_is_seen_through_the_one_made_on_top_of_it(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(outer)], check=True)
    site = Path(own_packages(installing.python_of(outer))[0])
    (site / "torch.py").write_text(FAKE_TORCH)
    (site / "torch-9.9.0+cu130.dist-info").mkdir()
    (site / "torch-9.9.0+cu130.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.0+cu130\n")
    base = probe(installing.python_of(outer))
    assert (base.torch, base.device, base.torch_cuda) == ("9.9.0+cu130", "cuda", "13.0")

    venv = tmp_path / "venv"
    installing.make_venv(venv, str(installing.python_of(outer)), borrow=True)
    assert probe(installing.python_of(venv)).torch == "9.9.0+cu130"
    listing = output_of([str(installing.python_of(venv)), "-m", "pip", "list", "--format=freeze"])
    assert "torch==9.9.0+cu130" in (listing or "")
    assert installing.is_usable(venv, borrow=True)
    assert not installing.is_usable(venv, borrow=False)


def test_an_activated_environment_is_brought_up_to_date_with_the_python_it_was_made_from(
    tmp_path: Path, installs: list[Wish], monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / "venv"
    stamped(venv, [], python="/opt/image/bin/python")
    assert installing.starting_python(venv) == sys.executable
    monkeypatch.setattr(sys, "prefix", str(venv))
    assert installing.starting_python(venv) == "/opt/image/bin/python"
    assert installing.main(["--venv", str(venv), "--extras", "test"]) == 0
    stamp = installing.read_stamp(venv)
    assert stamp is not None
    assert (stamp["extras"], stamp["python"]) == (["report", "test"], "/opt/image/bin/python")


def test_a_torch_that_does_not_import_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = probe(sys.executable)
    assert found.torch is None
    assert found.device is None


@pytest.mark.parametrize(("brought", "installed"), [("nvidia-cublas", False), ("sympy", True)])
def test_pip_installs_torch_on_a_cpu_machine_only_if_nothing_for_an_accelerator_comes_along(
    monkeypatch: pytest.MonkeyPatch, brought: str, installed: bool
) -> None:
    report = {"install": [{"metadata": {"name": name, "version": "1.0"}} for name in ("torch", brought)]}
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(installing, "output_of", lambda command, timeout_s: json.dumps(report))
    monkeypatch.setattr(installing, "pip", lambda venv, *arguments: calls.append(arguments) is None)
    wish = Wish(Path(".venv"), pip_args=("--no-cache-dir",))
    assert installing.try_attempt(Attempt("pip", "torch==2.13.0", cpu_only=True), wish) is installed
    assert calls == ([("install", "--no-cache-dir", "torch==2.13.0")] if installed else [])


def test_the_setup_runs_on_the_standard_library_alone() -> None:
    """As on a fresh machine: no site-packages (-S), from the repository's root."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "runners.setup_environment", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--torch-index" in done.stdout
