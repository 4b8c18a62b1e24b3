"""The page of a prediction: one file, all of its parts, safe text, the same bytes twice. And the picture of memory."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chipassay.runners.cli import main
from chipassay.runners.report.memory_picture import LOOKS, draw_memory
from chipassay.scaling.memory import KINDS
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import predict

pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
pytest.importorskip("jinja2", reason="pages are written by jinja2")

KNOWN = ("predict", "--model", "llama3-8b", "--cluster", "16xh100-sxm-80gb", "--batch", "64", "--tokens", "1e12")
PLAN = ("--plan", "tp=2,pp=2,dp=4,zero=1,recompute=full")


class Parts(HTMLParser):
    """Elements that are open, ids, links and headings of a page."""

    VOID = ("meta", "link", "br", "path", "use", "image", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        named = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name in ("href", "src") if (value := named.get(name))]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page(tmp_path: Path, *arguments: str) -> str:
    path = tmp_path / "page.html"
    main([*KNOWN, *arguments, "--html", str(path)])
    return path.read_text(encoding="utf-8")


def words(text: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(tmp_path_factory.mktemp("page"), *PLAN)


def test_a_page_holds_numbers_pictures_terms_and_inputs(whole: str) -> None:
    told = words(whole)
    for name in ("breakdown", "memory", "gantt", "curve", "tornado"):
        assert f'aria-labelledby="{name}-title' in whole
    for heading in ("step time", "MFU", "memory per chip", "cost", "energy", "goodput", "1 T tokens", "Numbers of chips", "Term by term"):
        assert heading in told
    for text in ("80 %", "mlp up", "stage 1", "matrix products", "Narayanan", "failures: ", "power usage effectiveness"):
        assert text in told


def test_a_page_says_what_the_command_says(whole: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*KNOWN, *PLAN, "--goodput", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert f"{found['goodput']['share']:.1%}" in words(whole)
    assert f"{found['mfu']:.1%}" in words(whole)


def test_a_page_is_whole_and_loads_nothing(whole: str) -> None:
    parts = Parts(whole)
    assert parts.open == []
    assert len(parts.ids) == len(set(parts.ids))
    assert [link for link in parts.links if not link.startswith(("#", "data:"))] == []
    assert "<script" not in whole
    assert "default-src 'none'" in whole


def test_the_same_prediction_gives_the_same_page(whole: str, tmp_path: Path) -> None:
    assert page(tmp_path, *PLAN) == whole


def test_a_plan_without_a_pipeline_has_no_picture_of_one(tmp_path: Path) -> None:
    assert "gantt" not in page(tmp_path, "--plan", "tp=4,dp=4,zero=1,recompute=full")


def test_a_plan_that_does_not_fit_has_a_warning_with_the_nearest_that_does(tmp_path: Path) -> None:
    told = words(page(tmp_path, "--plan", "dp=16"))
    assert "This plan does not fit: " in told
    assert "the nearest plan that fits" in told


def test_a_name_from_a_file_is_text_on_the_page(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "_name_or_path": "<script>alert(1)</script>", "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
        "max_position_embeddings": 8192, "hidden_act": "silu", "tie_word_embeddings": False,
    }  # fmt: skip
    path = tmp_path / "<b>config.json"
    path.write_text(json.dumps(config))
    text = page(tmp_path, "--model", str(path), *PLAN)
    assert "<script" not in text
    assert "<b>" not in text


def test_the_bar_of_memory_is_as_long_as_the_bytes_and_every_kind_has_a_look() -> None:
    p = predict("llama3-8b", "16xh100-sxm-80gb", Plan(global_batch=64, dp=4, tp=4, zero_stage=1))
    axes = draw_memory(p).axes[0]
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(p.memory_total_bytes / 1e9)
    assert set(KINDS) <= set(LOOKS)
    assert len(set(LOOKS.values())) == len(LOOKS)
