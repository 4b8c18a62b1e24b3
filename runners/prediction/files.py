"""The answer as files: a picture, a trace, a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chipassay.results.errors import FileError

if TYPE_CHECKING:
    from chipassay.scaling.explain.case import Case
    from chipassay.scaling.pipeline.timeline import Timeline

    from .answer import Answer

PASSES_WITH_PARTS = 3000
"""A trace of more passes than that shows them whole: the operations inside would make files that viewers open slowly."""


def check_names(picture: Path | None, trace: Path | None, page: Path | None) -> None:
    """Raise FileError for a name of another kind or in a folder that is not there."""
    for path, flag, endings in ((picture, "--picture", (".png", ".svg")), (trace, "--trace", (".json",)), (page, "--html", (".html",))):
        if path is None:
            continue
        if path.suffix.lower() not in endings:
            raise FileError(path, f"{flag} writes {' or '.join(endings)}", mend="end the name in it")
        if not path.parent.is_dir():
            raise FileError(path, "its folder does not exist", mend=f"make it, or give {flag} another path")


def write_files(answer: Answer, picture: Path | None, trace: Path | None, page: Path | None) -> None:
    """Raises FileError where the disk refuses, ChipassayError where a library is missing."""
    if picture is not None:
        from ..report.scaling_pictures import draw_breakdown, write_figure

        write_figure(draw_breakdown([answer.prediction]), picture)
    if trace is not None:
        _write(trace, traced(answer))
    if page is not None:
        from ..report.prediction_page import page_text

        _write(page, page_text(answer, timeline(answer)))


def timeline(answer: Answer) -> Timeline:
    """One step of the answer's plan, played through."""
    from chipassay.scaling.pipeline.simulate import simulate
    from chipassay.scaling.pipelined import stages_of

    case = _case(answer)
    return simulate(stages_of(case.model, case.plan, case.step))


def traced(answer: Answer) -> str:
    """One step as a trace, with the operations inside each pass where there are not too many."""
    from chipassay.scaling.explain.inside import operations_of
    from chipassay.scaling.pipeline.trace import trace_json

    played = timeline(answer)
    return trace_json(played, operations_of(_case(answer)) if len(played.stage) <= PASSES_WITH_PARTS else None)


def _case(answer: Answer) -> Case:
    from chipassay.scaling.explain.case import Case
    from chipassay.scaling.ready import ready

    q, plan = answer.question, answer.prediction.plan
    return Case(q.model, plan, ready(q.group, plan.dtype), q.group, answer.prediction)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", errors="xmlcharrefreplace", newline="\n")
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror})", mend="choose another place") from error
