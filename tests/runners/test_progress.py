"""What the user sees while a run measures, where the library for the bar is missing."""

from __future__ import annotations

import io
from typing import Any

import pytest

from chipassay.results.schema import Row
from chipassay.runners import progress
from chipassay.runners.tasks import Task


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_without_rich_each_row_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    terminal: Any = Terminal()
    task = Task(columns={"op": "copy", "dtype": "fp32"}, request={})
    with progress.Progress(stream=terminal) as shown:
        shown.report(0, 1, task, None)
        shown.report(1, 1, task, Row(status="skipped", reason="no such dtype"))
    assert terminal.getvalue() == "[1/1] copy fp32: skipped: no such dtype\n"
