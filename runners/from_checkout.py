"""``python3 runners/from_checkout.py COMMAND ...``: the `chipassay` command straight from a checkout, nothing installed.

For rented images that bring torch, triton, CuPy and pandas, where installing would need a network. Python's standard library alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("numpy", "pandas")
"""What every command imports; what only some need (rich, psutil, matplotlib), these say themselves."""
ROOMS = ("kernels", "collectives", "results", "scaling", "runners")


def make_importable(root: Path, place: Path) -> None:
    """Make ``chipassay.<room>`` importable here and in child processes: a folder of links to the rooms goes on the path.

    Raises SystemExit when ``root`` is no checkout.
    """
    missing = [room for room in ROOMS if not (root / room / "__init__.py").is_file()]
    if missing:
        raise SystemExit(f"{root} is no checkout of chipassay: it has no {missing[0]}/; run this script from the checkout it came with")
    package = place / "chipassay"
    package.mkdir(parents=True, exist_ok=True)
    for room in ROOMS:
        link = package / room
        if not link.exists():
            link.symlink_to(root / room, target_is_directory=True)
    sys.path.insert(0, str(place))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))


def main() -> int:
    """Run one command of chipassay from the checkout that this file is in."""
    # Run as a script, Python puts this folder first on the path: its modules would be found under the wrong names.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise SystemExit(f"{sys.executable} has no {' and no '.join(missing)}; pip install {' '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="chipassay-") as place:
        make_importable(Path(__file__).resolve().parent.parent, Path(place))
        from chipassay.runners.cli import main as command

        return command()


if __name__ == "__main__":
    sys.exit(main())
