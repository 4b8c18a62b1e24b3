"""What the command line prints: whatever files and devices hold, the terminal is not steered by it."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest

from chipassay.results.schema import Row
from chipassay.results.table import TableWriter
from chipassay.runners import progress
from chipassay.runners.cli import main
from chipassay.runners.gpu_summary import summary_markdown
from chipassay.runners.say import say
from chipassay.runners.tasks import Task

NASTY = "\x1b]0;owned\x07\x1b[2J[red]X[/red]\u202egnp\u200b"
"""Sets a terminal's title, clears it, is red in rich's markup, is read backwards, hides a character."""
SEEN = "\\x1b]0;owned\\x07\\x1b[2J[red]X[/red]\\u202egnp\\u200b"
STEERING = ("\x1b", "\x07", "\u202e", "\u200b", "\x9b", "\r")


def rows() -> list[Row]:
    found = []
    for edge in (256, 1024, 4096):
        flops = 2.0 * edge**3
        time_s = 1e-5 + flops / 4e11
        case = {"op": "matmul", "m": edge, "n": edge, "k": edge, "dtype": "bf16", "cache": "cold", "kernel": "NAME", "backend": "torch"}
        result = {"flops": flops, "bytes": 6.0 * edge**2, "time_median_s": time_s, "rate_flops_per_s": flops / time_s}
        device = {"chip_id": "chip-NAME", "device_name": "NAME", "device_kind": "cpu", "device_memory_bytes": 2**35}
        found.append(Row(**{"status": "ok", "run_id": "r", "method_version": 1, **case, **result, **device}))  # type: ignore[arg-type]
    copied = {"op": "copy", "elements": 2**26, "bytes": 2.0**29, "time_median_s": 0.02, "bandwidth_bytes_per_s": 2.0**29 / 0.02}
    return [*found, dataclasses.replace(found[0], m=None, n=None, k=None, flops=None, rate_flops_per_s=None, **copied)]  # type: ignore[arg-type]


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """A CSV that someone has tampered with: what chipassay writes has no such characters."""
    path = tmp_path / "rows.csv"
    with TableWriter(path) as table:
        table.extend(rows())
    path.write_bytes(path.read_bytes().replace(b"NAME", NASTY.encode()))
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main(list(map(str, arguments)))
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert not [char for char in STEERING if char in text]
    return text


@pytest.mark.parametrize("command", ["profile", "compare", "report", "import"])
def test_a_tampered_file_does_not_steer_the_terminal(
    nasty: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nasty.parent)
    printed(capsys, command, nasty, *([nasty] if command == "compare" else []), *(["-o", "out.csv"] if command == "import" else []))


def test_a_tampered_device_name_is_seen_in_the_profile(nasty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{SEEN} (chip-{SEEN})" in printed(capsys, "profile", nasty)


def test_an_error_that_quotes_a_file_or_the_command_line_is_shown(nasty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty.write_bytes(nasty.read_bytes().replace(b",1024,", b",\x1b[2J,"))
    assert "line 3, column m: '\\x1b[2J' is not a whole number" in printed(capsys, "profile", nasty)
    assert "\\x1b[2j" in printed(capsys, "equate", "8x\x1b[2J", "--in", "v100-sxm-16gb", "--model", "llama3-8b")
    assert "owned" in printed(capsys, "predict", "--cluster", f"8x{NASTY}", "--model", "llama3-8b")


def test_a_tampered_profile_does_not_steer_the_terminal(nasty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "profile", nasty, "-o", nasty.with_name("p.json"))
    told = printed(capsys, "predict", "--model", "gpt2", "--cluster", f"1x{nasty.with_name('p.json')}")
    assert "step" in told
    printed(capsys, "equate", f"1x{nasty.with_name('p.json')}", "--in", "h100-sxm-80gb", "--model", "gpt2")


def test_json_holds_the_text_itself_and_steers_nothing(nasty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, "profile", nasty, "--json"))["name"] == NASTY


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("rich", [True, False])
def test_progress_shows_markup_and_control_characters_as_text(monkeypatch: pytest.MonkeyPatch, rich: bool) -> None:
    if rich:
        pytest.importorskip("rich", reason="the bar is drawn by rich")
    else:
        monkeypatch.setattr(progress, "find_spec", lambda name: None)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "400")
    terminal: Any = Terminal()
    with progress.Progress(stream=terminal) as shown:
        task = Task(columns={"op": "copy", "dtype": NASTY}, request={})
        shown.tell(NASTY)
        shown.report(0, 1, task, None)
        shown.report(1, 1, task, Row(status="skipped", reason=NASTY))
    assert f"{SEEN}\n" in terminal.getvalue()
    assert "skipped: \\x1b]0;" in terminal.getvalue()
    assert "\x07" not in terminal.getvalue()
    assert "\x1b]0" not in terminal.getvalue()


def test_the_markdown_of_a_gpu_keeps_its_table_and_has_no_html() -> None:
    bad = f"a|b `c` <img src=x onerror=alert(1)> {NASTY}"
    text = summary_markdown([Row(op="copy", kernel=bad, status="error", reason=bad, device_name=bad, chip_id=bad, driver=bad)], [], [])
    assert "<img" not in text
    assert not [char for char in STEERING if char in text]
    assert next(line.count("|") for line in text.splitlines() if line.startswith("| copy")) == 8  # seven columns


def test_a_terminal_with_a_small_encoding_gets_codes() -> None:
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="latin-1")
    say("10 µs", "速度", to=terminal)
    assert raw.getvalue() == b"10 \xb5s\n\\u901f\\u5ea6\n"
