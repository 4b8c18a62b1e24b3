"""torch.distributed as a transport, where no second rank is needed: what is called, with torch's functions replaced."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chipassay.collectives.transport import Site, transports

torch = pytest.importorskip("torch")

TRANSPORT = transports()["torch.distributed"]


@pytest.fixture
def calls(monkeypatch):
    """What reached torch.distributed: a list of (function, arguments)."""
    import torch.distributed as distributed

    made = []

    def recorder(name, answer=None):
        def record(*arguments, **keywords):
            made.append((name, *arguments, keywords))
            return answer

        return record

    monkeypatch.setattr(distributed, "get_rank", lambda group=None: 0)
    for name in ("new_group", "all_reduce", "barrier", "all_gather_single"):
        monkeypatch.setattr(distributed, name, recorder(name, f"answer of {name}"), raising=False)
    return made


def opened(device_kind, timeout_s=None):
    return TRANSPORT.open(Site(0, 4, device_kind, "cpu", share=lambda message, members: message, timeout_s=timeout_s))


def test_every_rank_makes_every_group_in_order_and_each_waits_as_long_as_the_site_says(calls):
    transport = opened("cpu", timeout_s=7.0)
    assert transport.group(((2, 3),)) is None
    assert transport.group(((2, 3), (1, 0))) is not None
    wait = {"timeout": timedelta(seconds=7)}
    assert calls == [("new_group", [2, 3], wait), ("new_group", [2, 3], wait), ("new_group", [0, 1], wait)]


def test_groups_are_made_once_in_whatever_order_their_ranks_are_written(calls):
    transport = opened("cpu")
    assert transport.group(((0, 1),)) is transport.group(((1, 0),))
    assert len(calls) == 1


def test_a_barrier_between_gpus_is_queued_as_an_all_reduce_of_one_element(calls):
    opened("cuda").group(((0, 1),)).barrier()
    name, token, keywords = calls[-1]
    assert (name, token.numel(), keywords) == ("all_reduce", 1, {"group": "answer of new_group"})


def test_a_barrier_between_cpus_is_torchs_own(calls):
    opened("cpu").group(((0, 1),)).barrier()
    assert calls[-1] == ("barrier", "answer of new_group", {})


def test_8_bit_floats_are_gathered_as_bytes_of_the_same_memory(calls):
    send, receive = torch.ones(2).to(torch.float8_e4m3fn), torch.empty(4, dtype=torch.float8_e4m3fn)
    opened("cuda").group(((0, 1),)).all_gather(send, receive)
    _, into, given, _ = calls[-1]
    assert {into.dtype, given.dtype} == {torch.uint8}
    assert (into.data_ptr(), given.data_ptr()) == (receive.data_ptr(), send.data_ptr())
