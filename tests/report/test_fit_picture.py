"""The picture of measured against modelled times."""

from __future__ import annotations

import numpy as np
import pytest

from chipassay.results.errors import FileError
from chipassay.results.schema import Row
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
