"""What a Python has installed and which accelerators the drivers show, asked in separate processes so that nothing is imported here."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .decisions import Facts

PROBE = """
import importlib, importlib.metadata as metadata, json
found = {}
for name in ("torch", "triton", "numpy"):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
try:
    import torch
    found["torch"] = str(torch.__version__)
    found["torch_cuda"] = torch.version.cuda
    for plugin in ("torch_npu", "torch_mlu", "torch_musa"):
        try:
            importlib.import_module(plugin)
        except ImportError:
            pass
    for kind in ("cuda", "xpu", "npu", "mlu", "musa"):
        part = getattr(torch, kind, None)
        if part is not None and part.is_available():
            found["device"] = "rocm" if kind == "cuda" and torch.version.hip else kind
            break
    else:
        if torch.backends.mps.is_available():
            found["device"] = "mps"
except Exception:
    found.pop("torch", None)
print("FOUND " + json.dumps(found))
"""


def output_of(command: Sequence[str], timeout_s: float = 60) -> str | None:
    """What a command prints, or None if it is not there, fails or hangs. Run in /, so that no folder here can pose as a package."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s, cwd="/", check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def probe(python: str | Path) -> Facts:
    """What a Python has: torch (None if it is missing or does not import) and the accelerator it drives."""
    lines = (output_of([str(python), "-c", PROBE], timeout_s=300) or "").splitlines()
    found: dict[str, Any] = next((json.loads(line[len("FOUND ") :]) for line in lines if line.startswith("FOUND ")), {})
    return Facts(**{field.name: found[field.name] for field in fields(Facts) if field.name in found})


def own_packages(python: str | Path) -> list[str]:
    """The folders of a virtual environment's own packages; none for a Python that is no virtual environment."""
    code = (
        "import sys, sysconfig\n"
        "if sys.prefix != sys.base_prefix: print(*dict.fromkeys(sysconfig.get_path(kind) for kind in ('purelib', 'platlib')), sep='\\n')"
    )
    return (output_of([str(python), "-c", code]) or "").splitlines()


def look_at_machine() -> Facts:
    """The accelerators that the drivers here show, whatever Python has."""
    listing = output_of(["nvidia-smi"])
    capabilities = output_of(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]) if listing else None
    return Facts(
        nvidia=listing is not None,
        driver_cuda=cuda_of_driver(listing or ""),
        capability=lowest_capability(capabilities or ""),
        amd=Path("/dev/kfd").exists(),
    )


def cuda_of_driver(listing: str) -> tuple[int, int] | None:
    """The CUDA version in what `nvidia-smi` prints.

    >>> cuda_of_driver("| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4  |")
    (12, 4)
    """
    found = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+)\.(\d+)", listing)
    return (int(found.group(1)), int(found.group(2))) if found else None


def lowest_capability(listing: str) -> tuple[int, int] | None:
    """The lowest of the compute capabilities listed one a line.

    >>> lowest_capability("9.0\\n7.0\\n")
    (7, 0)
    """
    return min(((int(major), int(minor)) for major, minor in re.findall(r"^\s*(\d+)\.(\d+)\s*$", listing, re.M)), default=None)
