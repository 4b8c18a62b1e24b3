"""NCCL through cupy: counts, types, roots and offsets, on raw pointers, between threads of one process. No GPU is needed."""

from __future__ import annotations

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import pytest

from chipassay.collectives.pattern import patterns
from chipassay.collectives.transport import Ask, Site, transports
from chipassay.collectives.transports import cupy_nccl

torch = pytest.importorskip("torch")

CUPY = transports()["cupy.nccl"]
RANKS = 4


class Sharing:
    """The control channel between threads: the first of the members says something, the others hear it."""

    def __init__(self):
        self.said = {}
        self.condition = threading.Condition()

    def __call__(self, message, members):
        with self.condition:
            if message is not None:
                self.said[tuple(members)] = message
                self.condition.notify_all()
            assert self.condition.wait_for(lambda: tuple(members) in self.said, timeout=20)
            return self.said[tuple(members)]


@pytest.fixture
def stand_in(monkeypatch):
    from . import nccl_stand_in

    cuda = ModuleType("cupy.cuda")
    cuda.nccl = nccl_stand_in
    cupy = ModuleType("cupy")
    cupy.cuda, cupy.__version__ = cuda, "14.0"
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=nccl_stand_in.STREAM))
    return nccl_stand_in


@pytest.fixture
def on_every_rank(stand_in):
    """Opens the transport on every rank and runs a function of (rank, opened) on all of them at once."""
    share = Sharing()
    opened = [CUPY.open(Site(rank, RANKS, "cuda", "cpu", share)) for rank in range(RANKS)]

    def run(function):
        with ThreadPoolExecutor(RANKS) as pool:
            return list(pool.map(function, range(RANKS), opened))

    return run


@pytest.mark.parametrize("members", [((0, 1, 2, 3),), ((0, 2, 3),), ((0, 3), (2, 1))])
def test_every_pattern_dtype_and_placement_arrives_exactly(on_every_rank, members):
    from . import rank_process

    cases = [
        (pattern, dtype, in_place)
        for pattern, dtype in itertools.product(patterns().values(), rank_process.TORCH)
        for in_place in ((False,) if pattern.in_place is None else (False, True))
    ]

    def wrong(rank, opened):
        group = opened.group(members)
        assert opened.group(members) is group
        if group is None:
            return []
        found = []
        for pattern, dtype, in_place in cases:
            elements = pattern.elements(40, rank_process.TORCH[dtype].itemsize, group.ranks)
            found.append((pattern.name, dtype, in_place, rank_process.wrong_in(group, pattern, elements, dtype, in_place)))
        return [case for case in found if case[-1]]

    assert on_every_rank(wrong) == [[]] * RANKS


def test_ranks_in_a_group_rise_with_those_in_the_job_and_outsiders_have_none(on_every_rank):
    def placed(rank, opened):
        group = opened.group(((3, 1),))
        return None if group is None else (group.rank, group.ranks)

    assert on_every_rank(placed) == [None, (0, 2), None, (1, 2)]


def test_closing_destroys_every_communicator(on_every_rank):
    def destroyed(rank, opened):
        group = opened.group(((0, 1, 2, 3),))
        opened.close()
        return group._communicator.destroyed

    assert all(on_every_rank(destroyed))


def test_the_version_of_nccl_is_read_as_its_header_writes_it(on_every_rank):
    assert on_every_rank(lambda rank, opened: opened.versions())[0] == {"cupy": "14.0", "nccl": "2.24.7"}


def test_a_cupy_that_finds_no_nccl_says_how_to_get_one(stand_in, monkeypatch):
    monkeypatch.setattr(stand_in, "available", False)
    with pytest.raises(RuntimeError, match="install_library"):
        CUPY.open(Site(0, 2, "cuda", "cpu", Sharing()))


def test_what_is_missing_is_said_in_the_order_in_which_it_is_mended(monkeypatch, tmp_path):
    places = {"torch": SimpleNamespace()}
    monkeypatch.setattr("importlib.util.find_spec", places.get)
    assert "between GPUs" in CUPY.missing("cpu")
    assert "cupy is not installed: install chipassay[cuda12]" in CUPY.missing("cuda")
    assert "made for this ROCm" in CUPY.missing("rocm")
    places["cupy"] = SimpleNamespace()
    places["cupy_backends"] = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    assert "without NCCL" in CUPY.missing("cuda")
    (tmp_path / "cuda" / "libs").mkdir(parents=True)
    (tmp_path / "cuda" / "libs" / "nccl.cpython-312-x86_64-linux-gnu.so").touch()
    assert CUPY.missing("cuda") is None


def test_only_rccls_8_bit_sums_are_refused():
    asks = {kind: Ask("all_reduce", True, "fp8_e4m3", False, "stream", kind) for kind in ("cuda", "rocm")}
    assert CUPY.lacks(asks["cuda"]) is None
    assert "fnuz" in CUPY.lacks(asks["rocm"])
    assert CUPY.lacks(Ask("all_gather", False, "fp8_e4m3", False, "graph", "rocm")) is None


def test_an_identity_arrives_as_it_was_whether_cupy_gives_bytes_or_characters_with_or_without_signs():
    # cupy 14 gives 128 bytes, earlier ones a tuple of as many characters.
    for characters in (range(-128, 0), range(128), range(128, 256)):
        assert cupy_nccl._received(cupy_nccl._shared(tuple(characters))) == tuple(characters)
    identity = bytes(range(128, 256))
    assert cupy_nccl._received(cupy_nccl._shared(identity)) == identity
