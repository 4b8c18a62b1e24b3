"""nccl-tests and rccl-tests: what they print, and the files they write."""

from __future__ import annotations

import re
from pathlib import Path

from .importer import Hints, Imported, Importer
from .source import plain_head, text_of

HEADER = re.compile(rb"(?:size\s+count|bytes\s+N)\s+type\s.*algbw\s+busbw")
GREETING = re.compile(rb"nThread \d+ nGpus \d+ minBytes \d+")
RECORD_KEYS = (b'"algBw"', b'"busBw"', b'"inPlace"')
CSV_HEADER = re.compile(rb"\A[^\n]*collective[^\n]*,\s*algbw\s*,\s*busbw\s*,\s*#?wrong", re.IGNORECASE)


def _is_records(head: bytes) -> bool:
    return (head.lstrip()[:1] in (b"{", b"[") and all(key in head for key in RECORD_KEYS)) or CSV_HEADER.search(head) is not None


def _is_json(head: bytes) -> bool:
    return head.lstrip()[:1] == b"{" and (b'"nccl_version"' in head or b'"rccl_version"' in head)


def recognises(path: Path, head: bytes) -> bool:
    """By the greeting or the header of the table; by the keys of its files."""
    head = plain_head(head)
    return _is_records(head) or _is_json(head) or GREETING.search(head) is not None or HEADER.search(head) is not None


def read(path: Path, hints: Hints) -> Imported:
    """Raises FileError for a file in which nothing can be read, naming the line."""
    from .nccl_json import read_json, read_rccl_records
    from .nccl_text import Reader

    head = text_of(path)[: 2**16].encode()
    if _is_records(head):
        return read_rccl_records(path, hints)
    return read_json(path, hints) if _is_json(head) else Reader(path).read(hints)


IMPORTER = Importer("nccl-tests", "nccl-tests and rccl-tests: printed tables, JSON (-J), and rccl-tests' record files", recognises, read)
