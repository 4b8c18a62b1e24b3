"""A run whose ranks a launcher started, against a fleet that answers as it is told."""

from __future__ import annotations

import pytest

from chipassay.results.errors import InputError
from chipassay.results.table import read_rows
from chipassay.runners import crew as crew_module
from chipassay.runners.crew import LaunchedCrew
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.launch.fleet import RankLost
from chipassay.runners.options import RunOptions
from chipassay.runners.row import SHARED_CHIP
from chipassay.runners.run import Run
from chipassay.runners.workers.client import WorkerDied

from .test_run import FACTS

SUITE = """
min_time_s = 0.01
[[block]]
op = "copy"
backends = ["torch"]
dtype = ["fp32"]
elements = [1]
[[block]]
op = "all_reduce"
ranks = "all"
dtype = ["fp32"]
size_bytes = [64, 128, 256]
"""


class FakeFleet:
    """Four ranks on two hosts; ``behaviour`` maps S to what asking for it raises."""

    nodes = ("a", "a", "b", "b")

    def __init__(self, behaviour=None, missing=None):
        self.hellos = {0: {"facts": DeviceFacts("cpu", "A CPU", "cpu-a", 1, 10**9, 10**6, "1").to_dict()}}
        self.behaviour, self._missing = behaviour or {}, missing or {}
        self.generation, self.running, self.asked, self.ended, self.lost = 1, True, [], None, ""

    def missing(self):
        return self._missing

    def start(self, timeout_s):
        self.generation, self.running = self.generation + 1, True

    def ask(self, request, timeout_s):
        self.asked.append((self.generation, request["size_bytes"]))
        if error := self.behaviour.get(request["size_bytes"]):
            self.running = False
            self.lost = str(error) if isinstance(error, RankLost) else ""
            raise error
        return {"row": {"status": "ok", "time_median_s": 1e-3, "samples_s": [1e-3], "rank_times_s": [1e-3] * 4}, "device_lost": None}

    def lost_words(self):
        return self.lost

    def stop(self, code=0, words=None):
        self.ended = (code, words)


@pytest.fixture
def execute(tmp_path):
    (tmp_path / "s.toml").write_text(SUITE)

    def go(fleet, with_mpi=False, **options):
        told = []
        given = {"suite": str(tmp_path / "s.toml"), "out": tmp_path / "out.csv", "rounds": 1, **options}
        crew = LaunchedCrew(fleet, with_mpi)
        return Run(RunOptions(**given), lambda *_: None, lambda *_: None, told.append, crew).execute(), told

    return go


def test_only_collectives_are_measured_over_the_nodes_there_are(execute, tmp_path):
    fleet = FakeFleet()
    _, told = execute(fleet)
    rows = read_rows(tmp_path / "out.csv")
    assert [(row.op, row.group_size, row.node_count, row.fabric) for row in rows] == [("all_reduce", 4, 2, "network")] * 3
    assert told == ["kernels are left out: they are measured by `chipassay run` on one chip"]
    assert fleet.ended == (0, None)


def test_kernels_alone_are_refused_and_all_ranks_end_with_that_error(execute):
    fleet = FakeFleet()
    with pytest.raises(InputError, match="nothing for several ranks in suite"):
        execute(fleet, only=("copy",))
    assert fleet.ended[0] == 2
    assert "nothing for several ranks" in fleet.ended[1]


def test_after_a_rank_that_died_a_fresh_generation_measures_the_rest(execute):
    fleet = FakeFleet({128: WorkerDied("rank 3 was killed (signal 9)")})
    outcome, _ = execute(fleet)
    assert [row.status for row in outcome.rows] == ["ok", "error", "ok"]
    assert fleet.asked == [(1, 64), (1, 128), (2, 256)]


def test_after_a_rank_that_is_lost_the_rest_is_skipped_and_resume_measures_it(execute):
    fleet = FakeFleet({128: RankLost("rank 3's host does not answer")})
    outcome, _ = execute(fleet)
    assert [row.status for row in outcome.rows] == ["ok", "error", "skipped"]
    assert outcome.rows[1].node_count == 2
    assert outcome.rows[2].reason == "a rank was lost before: rank 3's host does not answer"
    fleet = FakeFleet()
    outcome, _ = execute(fleet, resume=True)
    assert [size for _, size in fleet.asked] == [128, 256]
    assert {row.status for row in outcome.rows} == {"ok"}


def test_a_transport_that_a_rank_lacks_is_skipped_with_that_ranks_reason(execute):
    outcome, _ = execute(FakeFleet(missing={"torch.distributed": "rank 2: torch is broken"}))
    assert {(row.status, row.reason) for row in outcome.rows} == {("skipped", "rank 2: torch is broken")}


def test_mpi_needs_a_launcher_that_starts_it(execute, monkeypatch):
    pytest.importorskip("mpi4py")
    # As where srun, which knows MPI, started torchrun.
    monkeypatch.setenv("PMI_RANK", "0")
    outcome, _ = execute(FakeFleet(), backends=("mpi4py",))
    assert {row.status for row in outcome.rows} == {"skipped"}
    assert outcome.rows[0].reason.startswith("MPI is begun by the processes that mpirun starts")


def test_mpi_is_begun_once_per_launch(execute, monkeypatch):
    pytest.importorskip("mpi4py")
    monkeypatch.setenv("PMI_RANK", "0")
    fleet = FakeFleet({64: WorkerDied("rank 1 was killed (signal 9)")})
    outcome, _ = execute(fleet, with_mpi=True, backends=("mpi4py",))
    assert [row.status for row in outcome.rows] == ["error", "skipped", "skipped"]
    assert "starts once per launch" in outcome.rows[1].reason
    assert fleet.asked == [(1, 64)]
    fleet = FakeFleet()
    execute(fleet, with_mpi=True, backends=("mpi4py",), resume=True)
    assert [size for _, size in fleet.asked] == [64, 128, 256]


class FakeLocal:
    """The measuring process and the ranks of a local run in one."""

    def __init__(self):
        self.ready = True

    def ask(self, request, timeout_s):
        if request is None:
            return {"facts": FACTS.to_dict(), "backends": {"torch": None}}
        if "questions" in request:
            return {"answers": []}
        return {"row": {"status": "ok", "time_median_s": 1e-3, "samples_s": [1e-3], "flags": "one rank is slow"}, "device_lost": None}

    def stop(self):
        pass


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.setattr(crew_module, "start_worker", lambda *_: FakeLocal())
    monkeypatch.setattr(crew_module, "start_ranks", lambda *_, **__: FakeLocal())
    (tmp_path / "s.toml").write_text(SUITE)

    def go(**options):
        given = {"suite": str(tmp_path / "s.toml"), "out": tmp_path / "out.csv", "only": ("all_reduce",), "rounds": 1, **options}
        return Run(RunOptions(**given), lambda *_: None, lambda *_: None).execute()

    return go


def test_more_local_ranks_than_gpus_are_refused(local):
    with pytest.raises(InputError, match="--ranks 2 needs as many GPUs; there are 1"):
        local(ranks=2)


def test_ranks_that_share_a_gpu_say_so_in_every_row(local):
    outcome = local(ranks=2, share_gpu=True)
    assert {(row.status, row.flags) for row in outcome.rows} == {("ok", f"one rank is slow;{SHARED_CHIP}")}
    assert {row.chip_count for row in outcome.rows} == {1}
