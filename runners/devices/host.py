"""What the host gives us: processor, usable cores and memory, cache sizes. Containers and quotas are respected."""

from __future__ import annotations

import math
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Processor:
    """The CPU as it names itself. Family, model and flags are None or empty where the system does not tell."""

    name: str
    vendor: str
    family: int | None
    model: int | None
    flags: frozenset[str]


def processor(cpuinfo: str | None = None) -> Processor:
    """Read /proc/cpuinfo (or the given text); elsewhere fall back to what Python knows."""
    if cpuinfo is None:
        cpuinfo = _read("/proc/cpuinfo") or ""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    family: int | None
    model: int | None
    if "cpu implementer" in fields:
        # Arm names itself by implementer (0x41 is Arm's own cores) and part number; the architecture is 8 or later.
        implementer = fields["cpu implementer"].lower()
        vendor = "ARM" if implementer == "0x41" else f"implementer {implementer}"
        family, model = _integer(fields.get("cpu architecture")), int(fields.get("cpu part", "0"), 0)
    else:
        vendor = fields.get("vendor_id", platform.machine())
        family, model = _integer(fields.get("cpu family")), _integer(fields.get("model"))
    name = fields.get("model name") or platform.processor() or platform.machine() or "CPU"
    flags = frozenset((fields.get("flags") or fields.get("features") or "").split())
    return Processor(name=name, vendor=vendor, family=family, model=model, flags=flags)


def native_dtypes(flags: frozenset[str]) -> frozenset[str] | None:
    """dtypes the CPU multiplies in hardware, from its feature flags (x86 and Arm names); None when there are no flags.

    >>> sorted(native_dtypes(frozenset({"avx512_bf16", "avx512_vnni"})))
    ['bf16', 'fp32', 'fp64', 'int8']
    """
    if not flags:
        return None
    found = {"fp64", "fp32"}
    if flags & {"avx512_bf16", "amx_bf16", "bf16"}:
        found.add("bf16")
    if flags & {"avx512_fp16", "amx_fp16", "asimdhp"}:
        found.add("fp16")
    if flags & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}:
        found.add("int8")
    return frozenset(found)


def usable_cores(quota: str | None = None) -> int:
    """Physical cores this process may use: the affinity mask, less hyper-threads, within the container's CPU quota."""
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:
        allowed = list(range(os.cpu_count() or 1))
    cores = {_read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or f"cpu{cpu}" for cpu in allowed}
    count = len(cores)
    quota = quota if quota is not None else _read("/sys/fs/cgroup/cpu.max")
    if quota and not quota.startswith("max"):
        limit, period = quota.split()
        count = min(count, max(1, math.floor(int(limit) / int(period))))
    return count


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or the container's limit where that is lower."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _read("/sys/fs/cgroup/memory.max") or _read("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    return min(total, int(limit)) if limit and limit.isdigit() else total


def free_memory_bytes() -> int:
    """Memory that could be taken now without pushing anything out."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit and limit.isdigit() and used and used.isdigit():
        free = min(free, int(limit) - int(used))
    return max(free, 0)


LAST_LEVEL_CACHE_IF_UNKNOWN_BYTES = 64 * 2**20
"""Assumed where the system does not tell (macOS, some containers): more than most sockets' share."""


def last_level_cache_bytes() -> int:
    """Size of the largest cache that a core reaches."""
    sizes = [_size(_read(str(path / "size"))) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")]
    return max(sizes, default=0) or LAST_LEVEL_CACHE_IF_UNKNOWN_BYTES


def _size(text: str | None) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text or "")
    return int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2]] if match else 0


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None
