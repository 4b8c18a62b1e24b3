"""Children that die, hang, babble or answer: the parent gets a row's worth of truth and leaves no process behind."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from chipassay.runners.workers import client
from chipassay.runners.workers.client import WorkerDied, Workers, WorkerTimeout

ANSWERS = "import sys, json\nfor line in sys.stdin:\n    print(json.dumps({'got': json.loads(line)}), flush=True)"


def workers(*programs):
    return Workers([[sys.executable, "-c", program] for program in programs], [{}] * len(programs))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_first_child_answers_and_all_get_the_request(tmp_path):
    note = f"import sys\nfor line in sys.stdin: open({str(tmp_path / 'second')!r}, 'w').write(line)"
    both = workers(ANSWERS, note)
    assert both.ask({"n": 1}, 20) == {"got": {"n": 1}}
    both.stop()
    assert (tmp_path / "second").read_text() == '{"n": 1}\n'


KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def test_a_killed_child_is_told_with_its_signal():
    with pytest.raises(WorkerDied, match=r"the measuring process was killed \(signal 9\)$"):
        workers(KILLED).ask({}, 20)


def test_only_where_the_system_counts_a_kill_for_memory_was_it_that(monkeypatch):
    counts = iter([3, 4])
    monkeypatch.setattr(client, "oom_kills", lambda: next(counts, 4))
    with pytest.raises(WorkerDied, match="the measuring process was killed by the system: out of memory"):
        workers(KILLED).ask({}, 20)


@pytest.fixture
def small_group():
    """A control group with 64 MB of memory."""
    group = Path(f"/sys/fs/cgroup/memory/chipassay-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("67108864")
    except OSError as error:
        pytest.skip(f"no control group of version 1 can be made here: {error.strerror}")
    yield group
    group.rmdir()


def test_a_rank_that_the_system_kills_for_memory_is_named(small_group):
    greedy = f"open({str(small_group / 'tasks')!r}, 'w').write('0')\nheld = bytearray(10**9)\nimport time; time.sleep(600)"
    both = workers("import time; time.sleep(600)", greedy)
    with pytest.raises(WorkerDied, match="rank 1 was killed by the system: out of memory"):
        both.ask({}, 30)


def test_a_rank_that_ends_because_another_did_is_not_blamed():
    peer = "import sys, time; time.sleep(0.1); sys.exit('RuntimeError: Connection closed by peer [127.0.0.1]:4242')"
    with pytest.raises(WorkerDied, match="rank 1 ended with exit code 1: ValueError: the cause"):
        workers(peer, "import sys; sys.exit('ValueError: the cause')").ask({}, 20)


def test_a_stopped_child_is_given_up_before_its_time_is_over(monkeypatch):
    monkeypatch.setattr(client, "STOPPED_S", 0.5)
    monkeypatch.setattr(client, "LOOK_S", 0.1)
    one = workers("import time; time.sleep(600)", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    with pytest.raises(WorkerTimeout, match=r"rank 1 is stopped \(SIGSTOP\)"):
        one.ask({}, 60)


def test_a_hanging_rank_is_the_one_that_has_come_less_far(tmp_path):
    folder = tempfile.TemporaryDirectory()
    (Path(folder.name) / "progress").write_bytes(b"".join(count.to_bytes(8, "little") for count in (7, 7, 5)))
    sleeps = [[sys.executable, "-c", "import time; time.sleep(600)"]] * 3
    with pytest.raises(WorkerTimeout, match="no answer within 1 s: rank 2 is behind the others"):
        Workers(sleeps, [{}] * 3, folder).ask({}, 1)
    assert not Path(folder.name).exists()


def test_a_crash_is_told_with_the_last_words():
    one = workers("import sys; sys.exit('RuntimeError: no kernel image is available')")
    with pytest.raises(WorkerDied, match="exit code 1: RuntimeError: no kernel image is available"):
        one.ask({}, 20)


def test_a_hanging_child_and_what_it_started_are_killed(tmp_path):
    pids = tmp_path / "pids"
    program = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""
    one = workers(program)
    deadline = time.monotonic() + 20
    while not (pids.exists() and len(pids.read_text().split()) == 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(WorkerTimeout, match="no answer within 1 s"):
        one.ask({}, 1)
    own, grandchild = map(int, pids.read_text().split())
    assert not alive(own)
    deadline = time.monotonic() + 5
    while alive(grandchild) and Path(f"/proc/{grandchild}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_when_another_rank_dies_the_first_is_not_waited_for():
    both = workers("import time; time.sleep(600)", "import sys; sys.exit(3)")
    with pytest.raises(WorkerDied, match="rank 1 ended with exit code 3"):
        both.ask({}, 60)


def test_what_a_library_prints_never_reaches_the_protocol():
    program = """
from chipassay.runners.workers.channel import Channel
channel = Channel()
print("banner from a library")
import os; os.write(1, b"raw banner\\n")
for request in channel.requests():
    channel.answer({"clean": True})
"""
    one = workers(program)
    assert one.ask({}, 20) == {"clean": True}
    one.stop()


def test_a_ranks_last_words_are_its_error_on_one_line_whatever_libraries_say_at_the_exit():
    fails = """
import atexit, sys
from chipassay.runners.workers.ranks import end_at_once
atexit.register(lambda: print("Warning: destroy_process_group() was not called", file=sys.stderr))
try:
    raise RuntimeError("NCCL error: invalid argument\\nLast error:\\nno such type")
except RuntimeError as error:
    end_at_once(error)
"""
    with pytest.raises(WorkerDied, match=r"exit code 1: RuntimeError: NCCL error: invalid argument Last error: no such type$"):
        workers(fails).ask({}, 20)
