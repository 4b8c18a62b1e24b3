"""Jobs over several hosts: network namespaces joined by a bridge, each with a name of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from chipassay.runners.launch.addresses import interface_of, is_loopback, listening, own_address_towards, way_out

from .launched import PATIENT, QUICK, Job, clean_environment, command, rows_of

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
PORT = 29500
NET = "10.213.77"


def why_no_hosts():
    if sys.platform != "linux" or not (shutil.which("ip") and shutil.which("unshare")):
        return "needs Linux with ip and unshare"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    probe = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True)
    return None if probe.returncode == 0 else "this machine allows no network namespaces"


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Hosts:
    """So many hosts on one bridge, which is a namespace of its own."""

    def __init__(self, count):
        self.names = [f"chipassay-{os.getpid()}-{index}" for index in range(count)]
        self.switch = f"chipassay-{os.getpid()}-switch"

    def __enter__(self):
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.switch, "link", "set", "bridge", "up")
        for index, name in enumerate(self.names):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", self.switch, "link", "add", f"port{index}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", self.switch, "link", "set", f"port{index}", "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"{NET}.{index + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        return self

    def __exit__(self, *_):
        for name in (*self.names, self.switch):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    def on(self, index, words, known=None):
        """The command that runs these words on that host. ``known``: a file that is its /etc/hosts."""
        script = f"hostname node{index} && " + (f"mount --bind {known} /etc/hosts && " if known else "") + 'exec "$@"'
        return ["ip", "netns", "exec", self.names[index], "unshare", "--uts", "--mount", "sh", "-c", script, "sh", *words]

    def cut_off(self, index):
        """Pull its cable."""
        ip("-n", self.switch, "link", "set", f"port{index}", "down")


needs_hosts = pytest.mark.skipif((reason := why_no_hosts()) is not None, reason=reason or "")


@pytest.mark.slow
@needs_hosts
def test_torchrun_over_three_hosts_writes_one_file_that_counts_the_nodes(tmp_path):
    pytest.importorskip("torch")
    suite = QUICK + '[[block]]\nop = "all_reduce"\non = "cpu"\nranks = 2\nplacement = "across"\ndtype = ["fp32"]\nsize_bytes = [4096]\n'
    words = ["-m", "chipassay.runners", *command(tmp_path, suite)[3:]]
    with Hosts(3) as hosts:
        launchers = [
            [*TORCHRUN, "--nnodes=3", f"--node-rank={index}", "--nproc-per-node=1", f"--master-addr={NET}.1", f"--master-port={PORT}"]
            for index in range(3)
        ]
        job = Job([hosts.on(index, [*launcher, *words]) for index, launcher in enumerate(launchers)], [clean_environment()] * 3, tmp_path)
        try:
            assert job.ends() == [0, 0, 0], job.output()
        finally:
            job.kill()
    assert [(row.op, row.status, row.group_size, row.node_count) for row in rows_of(tmp_path)] == [
        ("all_reduce", "ok", 3, 3),
        ("all_gather", "ok", 3, 3),
        ("all_reduce", "ok", 2, 2),
    ], job.output()


@pytest.mark.slow
@needs_hosts
def test_a_host_that_is_cut_off_is_named_and_all_processes_end(tmp_path):
    pytest.importorskip("torch")
    # As many systems install it: the first host knows itself by an address that nobody else reaches.
    known = [tmp_path / "hosts0", tmp_path / "hosts1"]
    for path, address in zip(known, ("127.0.1.1", f"{NET}.1"), strict=True):
        path.write_text(f"127.0.0.1 localhost\n{address} node0\n")
    with Hosts(2) as hosts:
        environments = [clean_environment(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="node0", MASTER_PORT=str(PORT)) for rank in range(2)]
        job = Job([hosts.on(rank, command(tmp_path, PATIENT), known[rank]) for rank in range(2)], environments, tmp_path)
        try:
            job.until_rows(1, tmp_path / "out.csv")
            time.sleep(0.5)
            job.descendants()
            hosts.cut_off(1)
            begin_s = time.monotonic()
            job.until_rows(4, tmp_path / "out.csv")
            # SILENT_S is 10 s.
            assert time.monotonic() - begin_s < 16
            # LOST_S is 20 s on the host that is cut off.
            assert job.ends(timeout_s=40) == [0, 3], job.output()
        finally:
            job.kill()
    rows = rows_of(tmp_path)
    assert [row.status for row in rows] == ["ok", "error", "skipped", "skipped"]
    assert rows[1].reason == "rank 1's host does not answer"
    assert "rank 0's host does not answer" in job.output(1)


def test_a_way_to_itself_by_loopback_is_replaced_by_the_way_to_another():
    assert way_out("10.0.0.5", ["127.0.1.1"], 80) == "10.0.0.5"
    assert way_out("127.0.1.1", ["127.0.0.1"], 80) == "127.0.1.1"
    own = own_address_towards("127.0.0.1", 80)
    assert is_loopback(own)
    assert interface_of(own) in ("lo", "lo0")


def test_rank_0_listens_on_the_master_address_alone(monkeypatch):
    with listening("127.0.0.1", 0, several_hosts=True) as server:
        assert server.getsockname()[0] == "127.0.0.1"
    named = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: named)
    with listening("node0", 0, several_hosts=False) as server:
        assert server.getsockname()[0] == "127.0.1.1"
    with listening("node0", 0, several_hosts=True) as server:
        assert server.getsockname()[0] == "0.0.0.0"
