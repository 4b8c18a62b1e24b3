"""The picture of measured against modelled times."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chipassay.results.errors import FileError
from chipassay.results.profile import load_profile
from chipassay.results.schema import Row
from chipassay.results.table import TableWriter
from chipassay.runners.cli import main
from chipassay.runners.fitting.cross_validate import Fitted
from chipassay.runners.report.fit_picture import check_name, write_picture

pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")


def fitted(kind, hue, count=5):
    times_s = np.geomspace(1e-6, 1e-2, count)
    return Fitted(kind, f"{kind} {hue}", hue, [Row()] * count, times_s, 1.1 * times_s, None)


ALL = [fitted("matmul", "bf16", 5000), fitted("matmul", "fp32"), fitted("attention", "bf16"), fitted("links", "all_reduce", 1)]


def test_each_kind_has_a_panel_and_each_hue_its_error(tmp_path):
    write_picture(ALL, "X", tmp_path / "fit.svg")
    text = (tmp_path / "fit.svg").read_text()
    assert all(words in text for words in ("Matrix products", "Attention", "Collectives", "fp32: 5 rows, median 10.0 % off"))
    assert "Bound by memory" not in text


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a.svg", "b.svg"):
        write_picture(ALL, "X", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_profile_without_models_and_a_name_that_steers_are_drawn(tmp_path):
    write_picture([], "X\x1b[2J $x^2$ \ud800", tmp_path / "none.png")
    assert (tmp_path / "none.png").read_bytes().startswith(b"\x89PNG")


def test_another_ending_is_refused_before_anything_long(tmp_path):
    with pytest.raises(FileError, match=r"fit\.gif: .*end its name in \.svg or \.png"):
        check_name(tmp_path / "fit.gif")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        write_picture(ALL[1:], "X", tmp_path / "no" / "fit.svg")


def test_the_command_prints_errors_writes_a_loadable_profile_and_draws(tmp_path, capsys):
    times_s = {edge: 1e-5 + 2.0 * edge**3 / 1e11 for edge in (128, 256, 512, 1024, 2048)}
    with TableWriter(tmp_path / "rows.csv") as table:
        for edge, time_s in times_s.items():
            table.append(
                Row(op="matmul", m=edge, n=edge, k=edge, layout="nt", dtype="fp32", cache="cold", status="ok",
                    time_median_s=time_s, chip_id="cpu-x", device_name="X", flops=2.0 * edge**3)
            )  # fmt: skip
    asked = ["profile", str(tmp_path / "rows.csv"), "-o", str(tmp_path / "p.json"), "--picture", str(tmp_path / "p.svg")]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "error of the models" in out
    assert f"drawn: {tmp_path / 'p.svg'}" in out
    model = load_profile(tmp_path / "p.json").products["fp32"]
    assert float(model.time_s(1024, 1024, 1024)) == pytest.approx(times_s[1024], rel=0.1)
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["chip_id"] == "cpu-x"
    assert told["fit"]["errors"][0]["name"] == "matmul fp32"
    assert main([*asked[:-1], str(tmp_path / "p.gif")]) == 2
