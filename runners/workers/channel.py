"""The child's side of the pipe: requests in, answers out, one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import IO, Any


class Channel:
    """Takes standard input and output for the protocol; whatever libraries print goes to standard error instead."""

    def __init__(self) -> None:
        self._answers: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def requests(self) -> Iterator[dict[str, Any]]:
        """Requests until the parent closes the pipe or dies."""
        for line in sys.stdin:
            yield json.loads(line)

    def answer(self, message: Mapping[str, Any]) -> None:
        """Send one answer."""
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()
