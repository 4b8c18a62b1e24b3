"""Where a job's processes listen and by which way they reach each other."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

from chipassay.results.errors import InputError

BACKLOG = 2048
"""Connections that may wait: all ranks of a large job come at once."""


def node_hash() -> str:
    """Which running machine, without its name: 12 hex digits. As NCCL tells hosts apart (src/misc/utils.cc, getHostHash): by name and boot.

    A machine id would not do: containers from one image share it.
    """
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return hashlib.sha256(f"{socket.gethostname()}/{boot}".encode()).hexdigest()[:12]


def resolved(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """Family and address of a host. Raises InputError where it has none."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InputError(f"MASTER_ADDR={host} cannot be resolved here ({error.strerror}); write rank 0's IP address") from error
    return family, str(address[0])


def is_loopback(address: str) -> bool:
    """Whether it is reached from its own host only.

    >>> is_loopback("127.0.1.1"), is_loopback("::1"), is_loopback("10.0.0.1")
    (True, True, False)
    """
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def listening(host: str, port: int, several_hosts: bool) -> socket.socket:
    """A socket that listens on the master address alone.

    Many systems give their own name a loopback address that no other host reaches: then, and only for a job over several hosts, it
    listens on all. Raises InputError where the port is taken or the address is not this host's.
    """
    family, address = resolved(host, port)
    if several_hosts and is_loopback(address) and not _literal(host):
        address = ""
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((address, port))
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"MASTER_ADDR={host} is no address of rank 0's host; rank 0 runs where MASTER_ADDR says") from error
        mend = "choose another MASTER_PORT" if error.errno == errno.EADDRINUSE else "choose a MASTER_PORT above 1023"
        raise InputError(f"rank 0 cannot listen on {host}, port {port} ({error.strerror}); {mend}") from error
    return server


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def own_address_towards(host: str, port: int) -> str:
    """This host's address on the way to another, by the system's routes; nothing is sent. Raises InputError where there is no way."""
    family, address = resolved(host, port)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, port))
        except OSError as error:
            raise InputError(f"this host has no way to MASTER_ADDR={host} ({error.strerror})") from error
        return str(probe.getsockname()[0])


def way_out(own: str, others: Iterable[str], port: int) -> str:
    """The address by which the others reach this host. The first host's way to its own name may be loopback: then its way to another."""
    if not is_loopback(own):
        return own
    outside = next((address for address in others if not is_loopback(address)), None)
    return own if outside is None else own_address_towards(outside, port)


def interface_of(address: str) -> str | None:
    """The network interface that has this address.

    >>> interface_of("127.0.0.1") in ("lo", "lo0")
    True
    """
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address.partition("%")[0] for each in addresses):
            return name
    # 127.0.1.1 is on no list, and all of 127.0.0.0/8 is loopback.
    return interface_of("127.0.0.1") if is_loopback(address) and address != "127.0.0.1" else None
