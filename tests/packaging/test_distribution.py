"""What `pip install` gives: the wheel, the sdist and the editable install hold the five rooms, all of them and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOMS = ("kernels", "collectives", "results", "scaling", "runners")
HERE = Path(__file__).parent
ADDED_AND_SHIPPED = {
    "kernels/added/__init__.py": "",
    "kernels/added/deeper/__init__.py": "",
    "kernels/added/deeper/backend.py": "NAME = 'found'\n",
    "kernels/added/body.cu": "// a kernel\n",
    "results/data/added.csv": "chip_id\n",
    "results/profiles/added.json": "{}\n",
    "results/tuned/added.json": "{}\n",
    "results/README.md": "# results\n",
    "scaling/added.csv": "source\n",
    "scaling/models/added.toml": "layers = 1\n",
    "runners/suites/added.toml": "ops = []\n",
    "runners/templates/added.html.j2": "<p>\n",
}
ADDED_AND_NOT_SHIPPED = {
    "results/h100-20260101T000000Z.csv": "op\n",
    "results/report.html": "<html>\n",
    "results/gpu/rows.csv": "op\n",
    "results/gpu/tuned/h100.json": "{}\n",
    "results/h100-sxm-80gb/standard.csv": "op\n",
    "results/h100-sxm-80gb/README.md": "# measured\n",
    "results/data/.hidden.csv": "chip_id\n",
    "kernels/added/__pycache__/body.cpython-311.pyc": "",
    "tests/test_added.py": "",
}

pytestmark = pytest.mark.skipif(not (HERE.parents[1] / ".git").exists(), reason="what should be shipped is asked of git")


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Built:
    tree: Path
    should_ship: set[str]
    wheel: dict[str, bytes]
    wheel_of_sdist: dict[str, bytes]
    sdist: set[str]


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def in_rooms(names: set[str]) -> set[str]:
    return {name for name in names if name.split("/")[0] in ROOMS}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A copy of this checkout with a few files added, and what is built from it; from the same sdist a second wheel."""
    base = tmp_path_factory.mktemp("distribution")
    tree = base / "tree"
    run(sys.executable, str(HERE / "tree.py"), str(tree), cwd=HERE)
    known = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    made_by_users = {
        name for name in known if name.startswith("results/") and name.count("/") == 1 and name.endswith((".csv", ".json", ".html", ".png"))
    }
    made_by_users |= {name for name in known if name.startswith("results/h200-sxm-141gb/")}
    for name, text in {**ADDED_AND_SHIPPED, **ADDED_AND_NOT_SHIPPED}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "README.md").touch()
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(base / "sdist"), ".", cwd=tree)
    (sdist,) = (base / "sdist").glob("*.tar.gz")
    (wheel_of_sdist,) = (base / "sdist").glob("*.whl")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(base / "wheel"), ".", cwd=tree)
    (wheel,) = (base / "wheel").glob("*.whl")
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    return Built(tree, in_rooms(known) - made_by_users | set(ADDED_AND_SHIPPED), contents(wheel), contents(wheel_of_sdist), in_sdist)


def test_the_wheel_holds_every_file_of_the_rooms_and_nothing_else(built: Built) -> None:
    shipped = {name for name in built.wheel if ".dist-info/" not in name}
    assert shipped == {f"chipassay/{name}" for name in built.should_ship}


def test_each_room_is_marked_as_typed_and_the_namespace_has_no_init(built: Built) -> None:
    assert {f"chipassay/{room}/py.typed" for room in ROOMS} <= set(built.wheel)
    assert "chipassay/__init__.py" not in built.wheel


def test_the_wheel_carries_the_license_and_the_command(built: Built) -> None:
    licenses = [text for name, text in built.wheel.items() if name.endswith("dist-info/licenses/LICENSE")]
    assert len(licenses) == 1
    assert b"Apache License" in licenses[0]
    commands = next(text for name, text in built.wheel.items() if name.endswith("entry_points.txt"))
    assert b"chipassay = chipassay.runners.cli:main" in commands


def test_the_sdist_builds_the_same_wheel(built: Built) -> None:
    assert built.wheel_of_sdist == built.wheel


def test_the_sdist_brings_the_tests_but_not_what_users_measured(built: Built) -> None:
    assert {"tests/packaging/test_distribution.py", "tests/test_added.py", "Makefile", "setup.py", "pyproject.toml"} <= built.sdist
    assert not {name for name in in_rooms(built.sdist) if name in ADDED_AND_NOT_SHIPPED}


def test_the_editable_install_resolves_to_the_checkout_even_for_packages_added_later(built: Built, tmp_path: Path) -> None:
    hook = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    run(sys.executable, "-c", hook, str(tmp_path), cwd=built.tree)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    later = built.tree / "collectives" / "later"
    later.mkdir()
    (later / "__init__.py").touch()
    # -I -S: no site-packages, so no chipassay that happens to be installed can answer instead.
    look = (
        f"import site; site.addsitedir({str(tmp_path / 'site')!r})\n"
        "from chipassay.collectives import later; from chipassay.kernels.added.deeper import backend\n"
        "from chipassay.results import schema\n"
        "print(schema.__file__, later.__file__, backend.NAME, sep='\\n')"
    )
    lines = run(sys.executable, "-I", "-S", "-c", look, cwd=tmp_path).splitlines()
    assert lines == [str(built.tree / "results" / "schema.py"), str(later / "__init__.py"), "found"]
