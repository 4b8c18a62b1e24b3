"""One published training run as its table tells it: cells typed where they are numbers, kept as text where sources write prose."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from chipassay.results.datafile import Line, read_lines
from chipassay.results.errors import FileError, UnknownName

TRAINING_RUNS = Path(__file__).with_name("training_runs.csv")
REQUIRED = ("id", "source", "chip", "measured_metric", "measured_value")
METRICS = (
    "step_time_s", "tokens_per_s_per_gpu", "tflops_per_gpu_hw", "tflops_per_gpu_model", "mfu", "days", "gpu_hours", "images_per_s_total",
)  # fmt: skip

SETTINGS_NOT_FOUND = "NOT FOUND"
"""Notes of rows whose settings were to be read from a script that is not there: what stands for them is no statement of the source."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured training configuration. None and empty: the source does not say.

    The field names are the columns of the table; a column that is absent counts as empty, one that is unknown is passed over unless its
    name is all but that of an absent one.
    """

    line: int
    id: str
    source: str
    chip: str
    measured_metric: str
    measured_value: float
    year: int | None = None
    model_family: str = ""
    params_b: float | None = None
    """Billions of weights."""
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    ffn_hidden: int | None = None
    vocab: int | None = None
    seq_len: str = ""
    moe_experts: int | None = None
    moe_topk: int | None = None
    active_params_b: float | None = None
    num_chips: int | None = None
    chips_per_node: int | None = None
    intra_node_link: str = ""
    inter_node_link: str = ""
    dtype: str = ""
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    cp: int | None = None
    ep: int | None = None
    vpp_interleave: int | None = None
    microbatch: int | None = None
    global_batch_seqs: str = ""
    zero_stage: str = ""
    recompute: str = ""
    seq_parallel: str = ""
    flash_attention: str = ""
    framework: str = ""
    tokens_b: float | None = None
    """Billions of trained tokens that ``days`` or ``gpu_hours`` were spent on."""
    notes: str = ""
    evidence: str = ""
    score: str = "yes"

    @property
    def scored(self) -> bool:
        """Whether its error counts; a suspect row is predicted and never scored."""
        return self.score != "no"


COLUMNS = tuple(field.name for field in fields(Run) if field.name != "line")

_READ: dict[str, Callable[[Line, str], Any]] = {
    "str": Line.text,
    "int | None": Line.whole_or_none,
    "float | None": Line.number_or_none,
    "float": Line.number_or_none,
}


def _run(line: Line) -> Run:
    whole = replace(line, cells={**dict.fromkeys(COLUMNS, ""), **line.cells})
    values = {field.name: _READ[str(field.type)](whole, field.name) for field in fields(Run) if field.name != "line"}
    for name in REQUIRED:
        whole.required(name)
    if SETTINGS_NOT_FOUND in values["notes"]:
        values.update(dict.fromkeys(("zero_stage", "recompute", "seq_parallel", "flash_attention"), ""), vpp_interleave=None)
    if values["measured_metric"] not in METRICS:
        problem = str(UnknownName("metric", values["measured_metric"], METRICS))
        raise FileError(line.path, problem, line=line.number, field="measured_metric")
    if values["measured_value"] <= 0:
        raise FileError(line.path, "nothing was measured: the value is 0", line=line.number, field="measured_value", mend="delete the row")
    for name in ("layers", "hidden", "heads", "kv_heads", "num_chips", "chips_per_node", "tp", "pp", "dp", "cp", "ep", "microbatch"):
        if values[name] == 0:
            raise FileError(line.path, "0 of them cannot be", line=line.number, field=name, mend="give at least 1, or leave it empty")
    values["score"] = values["score"] or "yes"
    if values["score"] not in ("yes", "no"):
        raise FileError(line.path, f"{values['score']!r} is neither yes nor no", line=line.number, field="score")
    return Run(line=line.number, **values)


def _refuse_misspelt(line: Line) -> None:
    """A column that nobody reads is allowed; one that is nearly called as an absent one would leave open what the source says."""
    absent = [name for name in COLUMNS if name not in line.cells]
    for name in line.cells:
        near = difflib.get_close_matches(name, absent, n=1, cutoff=0.85) if name not in COLUMNS else []
        if near:
            raise FileError(line.path, f"unknown column {name!r}", line=1, mend=f"did you mean {near[0]}?")


def read_runs(path: Path = TRAINING_RUNS) -> tuple[Run, ...]:
    """The runs of a table, in its order.

    Raises FileError, with line and column, for a column of REQUIRED that lacks, one that is misspelt, a cell that is no number where one
    belongs, an unknown metric, or an id that stands twice.

    >>> len(read_runs()) > 2000
    True
    """
    runs: dict[str, Run] = {}
    for line in read_lines(path, REQUIRED):
        if not runs:
            _refuse_misspelt(line)
        run = _run(line)
        if run.id in runs:
            raise FileError(path, f"{run.id!r} stands in line {runs[run.id].line}, too", line=run.line, field="id", mend="rename one")
        runs[run.id] = run
    return tuple(runs.values())
