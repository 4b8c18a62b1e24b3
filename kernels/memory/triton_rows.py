"""How rows are laid over programs: the layouts that row-wise Triton kernels try. Run on an H200.

A *whole* layout holds ROWS complete rows in the registers of one program: memory is read once. A *looped* one goes over a row in pieces
and reads it twice or more, the second time mostly from the second-level cache: for rows that do not fit, or where smaller programs
hide latency better.
"""

from __future__ import annotations

WARP = 32
"""Threads of a warp by NVIDIA's count; AMD's 64 halve what follows."""
ELEMENTS_PER_THREAD = (16, 8, 32)
"""As many elements of a row as a thread may hold: 8 of 16 bits are one access of 16 bytes, 32 in fp32 are an eighth of its registers."""
FEWEST_ELEMENTS = 1024
"""Short rows share a program until it has so many elements: 128 threads with 16 bytes of bf16 each."""
MOST_WARPS = 16


def next_power(size: int) -> int:
    """The next power of two: Triton's blocks are no others.

    >>> [next_power(n) for n in (1, 3, 4, 4097)]
    [1, 4, 4, 8192]
    """
    return 1 << (size - 1).bit_length()


def whole_layouts(rows: int, width: int, largest: int, per_thread: tuple[int, ...] = ELEMENTS_PER_THREAD) -> list[dict[str, int]]:
    """Layouts of programs with whole rows, up to ``largest`` elements; none if a row is longer.

    >>> whole_layouts(rows=8, width=4000, largest=8192, per_thread=(16,))
    [{'ROWS': 1, 'BLOCK': 4096, 'num_warps': 8}, {'ROWS': 2, 'BLOCK': 4096, 'num_warps': 16}]
    """
    block = next_power(width)
    fewest = min(max(1, FEWEST_ELEMENTS // block), next_power(rows))
    found: dict[tuple[int, int, int], None] = {}
    for count in per_thread:
        for share in (fewest, fewest * 2, fewest * 4):
            warps = max(1, share * block // (WARP * count))
            if share * block <= max(largest, fewest * block) and block <= largest and warps <= MOST_WARPS and share <= next_power(rows):
                found[share, block, warps] = None
    return [{"ROWS": share, "BLOCK": block, "num_warps": warps} for share, block, warps in found]


def looped_layouts(width: int) -> list[dict[str, int]]:
    """Layouts of programs that go over one row in pieces; none for rows of less than two.

    >>> looped_layouts(4096)
    [{'ROWS': 1, 'BLOCK': 2048, 'num_warps': 4}, {'ROWS': 1, 'BLOCK': 1024, 'num_warps': 4}]
    """
    layouts = ((4096, 8), (8192, 8), (2048, 4), (4096, 4), (8192, 16), (1024, 4))
    return [{"ROWS": 1, "BLOCK": block, "num_warps": warps} for block, warps in layouts if 2 * block <= width]
