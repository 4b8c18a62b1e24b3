"""The command line: fast help, exit codes, and words that help when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from chipassay.results.schema import Row
from chipassay.results.table import TableWriter
from chipassay.runners.cli import COMMANDS, main


def run(capsys, *arguments):
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    with TableWriter(path) as table:
        for edge in (256, 1024, 4096):
            flops = 2.0 * edge**3
            for dtype, rate in (("bf16", 4e11), ("fp32", 2e11)):
                time_s = 1e-5 + flops / rate
                table.append(
                    Row(
                        op="matmul",
                        m=edge,
                        n=edge,
                        k=edge,
                        dtype=dtype,
                        cache="cold",
                        kernel="torch.mm",
                        backend="torch",
                        status="ok",
                        flops=flops,
                        bytes=6.0 * edge**2,
                        time_median_s=time_s,
                        rate_flops_per_s=flops / time_s,
                        chip_id="cpu-x-2c",
                        device_name="X",
                        device_kind="cpu",
                        device_memory_bytes=32 * 2**30,
                        run_id="r",
                        method_version=1,
                    )
                )
        for elements in (1 << 12, 1 << 26):
            time_s = 1e-6 + 8 * elements / 3e10
            table.append(
                Row(
                    op="copy",
                    elements=elements,
                    dtype="fp32",
                    cache="cold",
                    kernel="torch.copy_",
                    backend="torch",
                    status="ok",
                    bytes=8.0 * elements,
                    time_median_s=time_s,
                    bandwidth_bytes_per_s=8 * elements / time_s,
                    chip_id="cpu-x-2c",
                    device_name="X",
                    device_kind="cpu",
                    device_memory_bytes=32 * 2**30,
                    run_id="r",
                    method_version=1,
                )
            )
    return path


def test_every_command_has_help_that_names_the_exit_codes(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert "exit codes: 0 fine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["report", "nowhere.csv"], "nowhere.csv: cannot be read (No such file or directory)"),
        (["profile", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["profiles", "h100"], "unknown chip 'h100'; did you mean h100-nvl-94gb, h100-pcie-80gb, h100-sxm-80gb"),
        (["profiles", "h100sxm"], "unknown chip 'h100sxm'; did you mean"),
        (["predict", "--model", "lama3-8b", "--cluster", "8xh100-sxm-80gb"], "'lama3-8b'"),
        (["predict", "--model", "llama3-8b", "--cluster", "8xh100-smx-80gb"], "did you mean h100-sxm-80gb"),
        (["predict", "--model", "llama3-8b", "--cluster", "eight h100"], "eight h100"),
        (["predict", "--model", "llama3-8b", "--cluster", "8xh100-sxm-80gb", "--plan", "tp=8,pp"], "'pp' is not NAME=VALUE"),
        (["predict", "--model", "llama3-8b", "--cluster", "8xh100-sxm-80gb", "--plan", "tpp=8"], "unknown plan field 'tpp'; did you mean"),
        (["predict", "--model", "llama3-8b", "--cluster", "8xh100-sxm-80gb", "--tokens", "-1"], "above 0"),
        (["equate", "h100-sxm-80gb", "--in", "a100-sxm-80gb", "--model", "llama3-8b"], "is not COUNTxCHIP"),
        (["equate", "8xh100-sxm-80gb", "--in", "a800-sxm-80gb+v100-sxm2-32gb:3", "--model", "llama3-8b"], "1 share for 2 kinds"),
        (["run", "--resume"], "--resume needs the file to go on with"),
        (
            ["run", "--device", "cpu", "--backend", "numpy", "--only", "copy", "--sustain", "9m", "--budget", "1m"],
            "do not fit into a budget",
        ),
    ],
)
def test_bad_input_ends_with_2_and_says_what_and_where(capsys, arguments, complaint):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert complaint in err
    assert "Traceback" not in err
    assert out == ""


def test_a_broken_cell_is_named_through_the_command(capsys, rows):
    lines = rows.read_text().splitlines()
    lines[2] = lines[2].replace("matmul,256", "matmul,many")
    rows.write_text("\n".join(lines) + "\n")
    code, _, err = run(capsys, "profile", rows)
    assert code == 2
    assert f"{rows}, line 3, column m: 'many' is not a whole number; repair or delete this line" in err


def test_a_profile_is_written_and_can_stand_for_a_chip(capsys, rows, tmp_path):
    code, out, _ = run(capsys, "profile", rows, "-o", tmp_path / "p.json")
    assert code == 0
    assert "matmul bf16" in out
    code, out, _ = run(capsys, "equate", "8xh100-sxm-80gb", "--in", tmp_path / "p.json", "--model", "llama3-8b")
    assert code == 0
    assert "is worth" in out
    assert "assumed" in out


def test_a_place_that_cannot_be_written_is_told(capsys, rows, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "profile", rows, "-o", tmp_path / "file" / "p.json")
    assert code == 2
    assert "cannot be written" in err
    assert "--out" in err


def test_predictions_as_json_carry_breakdown_interval_and_evidence(capsys):
    code, out, _ = run(capsys, "predict", "--json", "--model", "llama3-8b", "--cluster", "64xh100-sxm-80gb", "--tokens", "15e12")
    found = json.loads(out)
    assert code == 0
    assert sum(found["breakdown_s"].values()) == pytest.approx(found["step_time_s"], rel=1e-9)
    assert found["low_s"] < found["step_time_s"] < found["high_s"]
    assert {given["evidence"]["level"] for given in found["inputs"]} <= {"measured", "published", "derived", "assumed"}
    assert found["days"] == pytest.approx(15e12 / found["tokens_per_s"] / 86400)


@pytest.mark.parametrize("plan", [["--plan", "dp=1"], []])
def test_a_model_that_does_not_fit_ends_with_1_and_says_what_takes_most(capsys, plan):
    code, out, err = run(capsys, "predict", "--model", "gpt3-175b", "--cluster", "1xh100-sxm-80gb", "--batch", "8", *plan)
    assert code == 1
    assert "does NOT fit: " in out if plan else "does not fit" in err


def test_errors_as_json_are_json_too(capsys):
    code, out, _ = run(capsys, "profiles", "--json", "nochip")
    assert code == 2
    assert json.loads(out)["kind"] == "UnknownName"


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m chipassay.runners profiles | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("chip")
    assert done.stderr == ""


def test_no_command_prints_help_and_ends_with_2(capsys):
    code, out, _ = run(capsys)
    assert code == 2
    assert "COMMAND" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "--launch", "stream,grpah"], "'grpah' is neither stream nor graph"),
        (["run", "--cache", "hot"], "'hot' is neither cold nor warm"),
        (["bench", "--sustain", "half a minute"], "'half a minute' is not a duration; write 90s, 5m or 1h"),
    ],
)
def test_a_wrong_argument_is_told(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_doctor_says_whether_the_clock_can_be_read_on_the_chip(capsys, monkeypatch):
    from chipassay.runners import examine
    from chipassay.runners.devices.facts import DeviceFacts

    facts = DeviceFacts("cuda", "X", "x", 1, 10**9, 1000, "d", clock="cannot be read on the chip (CuPy: ImportError)")
    monkeypatch.setattr(examine, "examine", lambda kind: (facts, {"torch": None}))
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "  clock    cannot be read on the chip (CuPy: ImportError)" in out


def test_the_version_is_told(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("chipassay 0.")
