"""Rank 0's judgement of what supervisors tell, second by second, on a clock that only moves when it waits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chipassay.results.errors import NothingMeasured
from chipassay.runners.launch import fleet as fleet_module
from chipassay.runners.launch.environment import Launch
from chipassay.runners.launch.fleet import SILENT_S, Fleet, RankLost
from chipassay.runners.workers.client import WorkerDied, WorkerTimeout

LAUNCH = Launch("torchrun", 0, 3, "10.0.0.1", 29500)
WELL = {"generation": 1, "ended": None, "stopped": False, "progress": 5}


class World:
    """Board, ward and clock in one: ``states`` maps a rank to its status at a time, None where it says nothing."""

    def __init__(self, **states):
        self.now_s, self.orders, self.said = 0.0, [], {}
        self.states = {int(name[1:]): state for name, state in states.items()}
        self.present = {"node": "n0", "address": "10.0.0.1"}

    def monotonic(self):
        return self.now_s

    def sleep(self, duration_s):
        self.now_s += duration_s

    def answer(self, timeout_s):
        self.now_s += timeout_s

    def status(self, rank=0):
        state = self.states.get(rank, lambda _: {})(self.now_s)
        if state is not None:
            self.said[rank] = {**WELL, "beat": self.now_s, **state}
        return self.said[rank]

    def told(self, kind, ranks):
        return {rank: self.status(rank) for rank in ranks}

    def silent(self, kind, ranks):
        return [rank for rank in ranks if kind == "here" and rank == 2]

    def order(self, message):
        self.orders.append(message)

    def ignore(self, *_):
        pass

    send = kill = stop = leave = ignore


@pytest.fixture
def asked(monkeypatch):
    def ask(world, timeout_s=30.0):
        monkeypatch.setattr(fleet_module, "time", SimpleNamespace(monotonic=world.monotonic, sleep=world.sleep))
        fleet = Fleet(world, world, LAUNCH, {}, None, False)
        fleet.generation = 1
        fleet.ask({"op": "all_reduce"}, timeout_s)

    return ask


def ended(code, words=""):
    return {"ended": {"code": code, "words": words, "out_of_memory": False}}


def test_a_rank_that_hangs_is_the_one_that_has_come_less_far(asked):
    world = World(r1=lambda now_s: {"progress": 4})
    with pytest.raises(WorkerTimeout, match="no answer within 30 s: rank 1 is behind the others"):
        asked(world)
    assert world.orders[-1] == {"kill": 1}


def test_a_rank_that_blames_another_is_not_named_when_that_one_is_heard_a_second_later(asked):
    world = World(
        r0=lambda now_s: ended(1, "RuntimeError: Connection closed by peer") if now_s > 3 else {},
        r2=lambda now_s: ended(-9) if now_s > 4.5 else {},
    )
    with pytest.raises(WorkerDied, match=r"^rank 2 was killed \(signal 9\)$"):
        asked(world)
    assert world.now_s < 7


def test_the_end_of_an_earlier_generation_is_no_news(asked):
    with pytest.raises(WorkerTimeout):
        asked(World(r1=lambda now_s: {**ended(-9), "generation": 0}))


def test_a_silent_supervisor_is_lost_after_its_time(asked):
    world = World(r2=lambda now_s: {} if now_s < 5 else None)
    with pytest.raises(RankLost, match=r"^rank 2's host does not answer$"):
        asked(world)
    assert 5 + SILENT_S - 1 < world.now_s < 5 + SILENT_S + 3


def test_nobody_is_lost_because_rank_0_itself_was_stopped(asked):
    world = World(r2=lambda now_s: {} if now_s < 5 or now_s > 66 else None)
    answer = world.answer

    def answer_after_a_pause(timeout_s):
        # It goes on at second 64, before the others have said anything new.
        world.now_s = 64.0 if 5 < world.now_s < 64 else world.now_s
        answer(timeout_s)

    world.answer = answer_after_a_pause
    with pytest.raises(WorkerTimeout, match="no answer within 90 s"):
        asked(world, timeout_s=90.0)


def test_a_rank_told_to_end_by_its_launcher_is_lost(asked):
    with pytest.raises(RankLost, match="rank 1 was told to end"):
        asked(World(r1=lambda now_s: {"left": now_s > 2}))


def test_who_does_not_come_is_named(monkeypatch):
    world = World()
    monkeypatch.setattr(fleet_module, "time", SimpleNamespace(monotonic=world.monotonic, sleep=world.sleep))
    with pytest.raises(NothingMeasured, match=r"rank 2 of 3 did not come within 60 s \(by torchrun, 3 ranks\)"):
        Fleet(world, world, LAUNCH, {}, None, False).gather(60.0)
