"""Finds the packages and data files of the five rooms; everything else about the distribution is in pyproject.toml.

The rooms are top-level folders (``kernels/``) but subpackages of one namespace (``chipassay.kernels``). Setuptools' own
finder cannot look for packages under another name than their folder's, so a few lines here do: a new subpackage or data
file is then part of the wheel, the sdist and the editable install without a list to keep by hand.
"""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
ROOMS = ("kernels", "collectives", "results", "scaling", "runners")
CODE_SUFFIXES = {".py", ".pyc", ".pyo"}
SHIPPED_FROM_RESULTS_ITSELF = {"py.typed", "PROFILE.md", "README.md", "SCHEMA.md", "WISHES.md"}
"""Directly in results/ lies also what users make, such as the CSVs that `make bench` writes there: not shipped."""
SHIPPED_FROM_RESULTS = {"data", "profiles", "tuned"}
"""Folders of data in results/ that are shipped. Others without code hold rows that were measured, such as `results/gpu`: not."""


def visible(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(HERE).parts)


def measured(room: str, folder: str) -> bool:
    return room == "results" and folder not in SHIPPED_FROM_RESULTS and not any((HERE / room / folder).glob("*.py"))


def shipped(room: str, file: Path) -> bool:
    if len(file.parts) > 1:
        return not measured(room, file.parts[0])
    return room != "results" or file.name in SHIPPED_FROM_RESULTS_ITSELF


def packages(room: str) -> list[str]:
    folders = {file.parent.relative_to(HERE) for file in (HERE / room).rglob("*.py") if visible(file)}
    return sorted(".".join(("chipassay", *folder.parts)) for folder in folders)


def data_files(room: str) -> list[str]:
    files = (file for file in (HERE / room).rglob("*") if file.is_file() and visible(file) and file.suffix not in CODE_SUFFIXES)
    inside = (file.relative_to(HERE / room) for file in files)
    return sorted(file.as_posix() for file in inside if shipped(room, file))


setup(
    packages=[name for room in ROOMS for name in packages(room)],
    package_dir={f"chipassay.{room}": room for room in ROOMS},
    package_data={f"chipassay.{room}": data_files(room) for room in ROOMS},
    include_package_data=False,  # the lists above are the whole truth, whatever a version-control plugin would add
)
