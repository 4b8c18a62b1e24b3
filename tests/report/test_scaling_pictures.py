"""Pictures of the scaling model: what they name, that bars are as long as the numbers, the same bytes twice, names that steer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chipassay.results.errors import FileError, InputError
from chipassay.runners.report.scaling_pictures import LOOKS, draw_breakdown, draw_curve, draw_tornado, write_figure
from chipassay.scaling.curve import ScalingCurve, scaling_curve
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import Prediction, predict
from chipassay.scaling.sensitivity import Sensitivity, sensitivity

pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")

PLAN = Plan(global_batch=128, dp=4, tp=4, zero_stage=1, recompute="full")


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    return predict("llama3-8b", "16xh100-sxm-80gb", PLAN)


@pytest.fixture(scope="module")
def curve() -> ScalingCurve:
    return scaling_curve("llama3-8b", "64xh100-sxm-80gb", [8, 12, 16, 64], plan=PLAN)


@pytest.fixture(scope="module")
def influences() -> Sensitivity:
    return sensitivity("llama3-8b", "16xh100-sxm-80gb", PLAN)


def test_bars_of_a_breakdown_are_as_long_as_the_step(prediction: Prediction) -> None:
    axes = draw_breakdown([prediction]).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert sum(widths) == pytest.approx(prediction.step_time_s)
    assert max(widths) == pytest.approx(max(prediction.breakdown_s.values()))


def test_every_kind_of_the_breakdown_has_a_look_of_its_own(prediction: Prediction) -> None:
    assert set(prediction.breakdown_s) <= set(LOOKS)
    looks = [look[1:] for look in LOOKS.values()]
    assert len(set(looks)) == len(looks)


def test_a_kind_that_the_pictures_do_not_know_is_drawn_too(prediction: Prediction) -> None:
    step = replace(prediction, breakdown_s={"matmul": 1.0, "sleep": 2.0}, step_time_s=3.0)
    figure = draw_breakdown([step, prediction], ["one", "two"])
    assert "sleep" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_curve_names_the_numbers_that_cannot_run(curve: ScalingCurve) -> None:
    above, below = draw_curve(curve).axes
    assert "12 cannot run it" in below.get_xlabel()
    (ideal, predicted) = above.get_lines()
    assert list(predicted.get_xdata()) == [8, 16, 64]
    assert ideal.get_ydata()[-1] == pytest.approx(8 * predicted.get_ydata()[0])


def test_a_curve_and_a_tornado_without_anything_to_draw_say_so(curve: ScalingCurve, influences: Sensitivity) -> None:
    nothing = replace(curve, points=tuple(point for point in curve.points if not point.runs))
    assert "no number of chips can run it" in [text.get_text() for text in draw_curve(nothing).texts]
    assert "no input moves it" in [text.get_text() for text in draw_tornado(replace(influences, influences=())).texts]


def test_a_tornado_has_the_most_influential_input_on_top(influences: Sensitivity) -> None:
    axes = draw_tornado(influences).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == influences.influences[0].name
    assert axes.yaxis_inverted()
    better = axes.containers[0].patches[0].get_width()
    assert better == pytest.approx(influences.influences[0].better_s / influences.prediction.step_time_s - 1)


def test_where_the_worse_end_does_not_fit_the_tornado_says_so(influences: Sensitivity) -> None:
    lost = replace(influences, influences=(replace(influences.influences[0], name="memory size", worse_s=None),))
    assert "no plan fits" in [text.get_text() for text in draw_tornado(lost).axes[0].texts]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_same_numbers_give_the_same_bytes(
    prediction: Prediction, curve: ScalingCurve, influences: Sensitivity, tmp_path, suffix
) -> None:
    for draw in (lambda: draw_breakdown([prediction]), lambda: draw_curve(curve), lambda: draw_tornado(influences)):
        files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
        for file in files:
            write_figure(draw(), file)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_name_that_steers_is_text(prediction: Prediction, tmp_path: Path) -> None:
    write_figure(draw_breakdown([replace(prediction, model="X\x1b[2J $x^2$")], ["a\u202eb"]), tmp_path / "one.svg")
    text = (tmp_path / "one.svg").read_text()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "$x^2$" in text


def test_another_ending_a_missing_folder_and_no_prediction_are_refused(prediction: Prediction, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"end its name in \.svg or \.png"):
        write_figure(draw_breakdown([prediction]), tmp_path / "one.gif")
    with pytest.raises(FileError, match="cannot be written"):
        write_figure(draw_breakdown([prediction]), tmp_path / "no" / "one.svg")
    with pytest.raises(InputError, match="at least one prediction"):
        draw_breakdown([])
