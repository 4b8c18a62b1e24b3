"""A process that is one rank: runs every pattern, dtype and placement through one transport and says what came out wrong.

``python rank_process.py TRANSPORT RANK RANKS FOLDER``; RANK and RANKS may be ``-`` where a launcher's environment has them. Rank r writes
``FOLDER/r.json``: a list of cases, each with what is wrong (empty: nothing), and whether the transport had refused it.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

from chipassay.collectives.pattern import patterns
from chipassay.collectives.pieces import tile, total
from chipassay.collectives.transport import Ask, Site, transports

TORCH = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "int8": torch.int8,
}
SIZES_BYTES = (1, 31, 4096)
SEED = 3
TIMEOUT_S = 30.0


def laid(pieces, ranks, dtype):
    """What pieces describe, as one tensor."""
    parts = [tile(piece, ranks, dtype, SEED, piece.start + piece.count)[piece.start :] for piece in pieces]
    return torch.from_numpy(np.concatenate([np.empty(0), *parts])).to(TORCH[dtype])


def buffers(pattern, rank, ranks, elements, dtype, in_place):
    """A rank's (send, receive): one inside the other in place; what is received into holds only ones before."""
    sends = laid(pattern.sends(rank, ranks, elements), ranks, dtype)
    count = total(pattern.receives(rank, ranks, elements))
    if not in_place:
        return sends, torch.ones(count).to(TORCH[dtype])
    offset = pattern.in_place(rank, ranks, elements)
    if count > len(sends):
        whole = torch.ones(count).to(TORCH[dtype])
        whole[offset : offset + len(sends)] = sends
        return whole[offset : offset + len(sends)], whole
    return sends, sends[offset : offset + count]


def same(one, other):
    """Exactly equal, in any dtype: all of them fit into doubles."""
    return torch.equal(one.double(), other.double())


def wrong_in(group, pattern, elements, dtype, in_place):
    """What went wrong with one case, run twice with the same buffers as timed calls are."""
    send, receive = buffers(pattern, group.rank, group.ranks, elements, dtype, in_place)
    expected = laid(pattern.receives(group.rank, group.ranks, elements), group.ranks, dtype)
    for turn in ("first", "second"):
        fresh_send, fresh_receive = buffers(pattern, group.rank, group.ranks, elements, dtype, in_place)
        send.copy_(fresh_send)
        if not in_place or receive.numel() > send.numel():
            receive.copy_(fresh_receive)
        pattern.call(group, send, receive, elements)
        if not same(receive, expected):
            return f"{turn} call: received {receive.tolist()[:8]}, expected {expected.tolist()[:8]}"
        if not in_place and not same(send, fresh_send):
            return f"{turn} call: what was sent has changed"
    return ""


def refused_by_library(group, pattern, elements, dtype, in_place):
    """Whether the library itself raises, as its transport's refusal says."""
    try:
        pattern.call(group, *buffers(pattern, group.rank, group.ranks, elements, dtype, in_place), elements)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def groupings(ranks):
    """All ranks, then disjoint groups at once, groups that leave ranks out, and one written the wrong way round."""
    yield (tuple(range(ranks)),)
    if ranks == 3:
        yield ((0, 2),)
    if ranks == 4:
        yield from [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((3, 1),), ((1, 2, 3),)]


def cases_of(transport, members):
    names = list(TORCH) if len(members) == 1 and members[0][0] == 0 else ["fp32", "fp8_e4m3"]
    for pattern, dtype in itertools.product(patterns().values(), names):
        for in_place in (False,) if pattern.in_place is None else (False, True):
            ask = Ask(pattern.name, pattern.reduces, dtype, in_place, "call", "cpu")
            yield pattern, dtype, in_place, transport.lacks(ask)


def results_of(transport, opened, ranks):
    for members in groupings(ranks):
        group = opened.group(members)
        if group is None:
            continue
        assert opened.group(members) is group
        for pattern, dtype, in_place, refusal in cases_of(transport, members):
            case = {"members": members, "pattern": pattern.name, "dtype": dtype, "in_place": in_place, "refusal": refusal}
            itemsize = TORCH[dtype].itemsize
            if refusal:
                # MPI ends the job instead of raising: its refusals are the standard's.
                if transport.name == "torch.distributed" and "in place only" not in refusal:
                    elements = pattern.elements(256, itemsize, group.ranks)
                    case["raised"] = refused_by_library(group, pattern, elements, dtype, in_place)
                yield {**case, "wrong": ""}
                continue
            for size_bytes in SIZES_BYTES if pattern.sized else (0,):
                elements = pattern.elements(size_bytes, itemsize, group.ranks)
                yield {**case, "elements": elements, "wrong": wrong_in(group, pattern, elements, dtype, in_place)}
        # The other groups may still be at it.
        group.barrier()


def main(name, rank, ranks, folder):
    torch.set_num_threads(1)
    transport = transports()[name]
    if name == "torch.distributed":
        torch.distributed.init_process_group(
            "gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=ranks, timeout=timedelta(seconds=TIMEOUT_S)
        )
    opened = transport.open(Site(rank, ranks, "cpu", "cpu", share=lambda message, members: message, timeout_s=TIMEOUT_S))
    results = list(results_of(transport, opened, ranks))
    (folder / f"{rank}.json").write_text(json.dumps({"results": results, "versions": opened.versions()}))
    opened.close()
    if name == "torch.distributed":
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    try:
        given = [
            int(os.environ[variable] if text == "-" else text)
            for variable, text in zip(("PMI_RANK", "PMI_SIZE"), sys.argv[2:4], strict=True)
        ]
        main(sys.argv[1], *given, Path(sys.argv[4]))
    except BaseException:
        traceback.print_exc()
        # At once, without waiting for ranks that wait for this one.
        os._exit(1)
