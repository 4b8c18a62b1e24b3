"""Copies what git knows of the work tree, uncommitted changes included, to a new folder: a checkout that no earlier build has touched.

``python tests/packaging/tree.py DESTINATION``
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files_known_to_git() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    paths = (Path(name) for name in listing.decode().split("\0") if name)
    return sorted({path for path in paths if (ROOT / path).is_file()})


def copy_tree(destination: Path) -> None:
    for path in files_known_to_git():
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)


if __name__ == "__main__":
    copy_tree(Path(sys.argv[1]))
