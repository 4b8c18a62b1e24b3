"""The ranks' sampling loop, with one rank and a fake chip."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from chipassay.runners.collective.measure import CollectiveMeasurer
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.timing.stopping import PreciseMedian

from .fakes import FakeChip, steady

FACTS = DeviceFacts("cpu", "X", "cpu-x", 1, 10**9, 1000, "d", threads=1)


@pytest.fixture
def lone_rank(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    # Nothing listens beyond this machine, as in a run.
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=(tmp_path / "meeting").as_uri(), rank=0, world_size=1)
    chip = FakeChip(steady(1e-3))
    yield chip, CollectiveMeasurer(FACTS, chip, 0, 1)
    distributed.destroy_process_group()


@pytest.mark.parametrize("batch", [1, 7, 64, 150])
def test_ranks_stop_with_the_batch_in_which_the_rule_was_satisfied(lone_rank, batch):
    chip, measurer = lone_rank
    turns = SimpleNamespace(times_s=lambda calls: chip.time_each(lambda: None, calls))
    taken = measurer._sample(turns, batch, PreciseMedian(min_time_s=0.1))
    assert taken.stop_reason == "precise"
    # The rule is satisfied after some 0.1 s of 1 ms calls; the batch that was under way is finished.
    assert len(taken.mean_s) <= 120 + batch
    assert taken.mean_s == pytest.approx(taken.own_s)
