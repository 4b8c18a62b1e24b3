"""Rows of training runs for tests, as text."""

from __future__ import annotations

import csv
from pathlib import Path

from chipassay.scaling.validation.rows import Run, read_runs

GPT_22B = {
    # Korthikanti et al. 2022 (arXiv 2205.05198), tables 3 and 5: 22B on 8 A100, full recomputation.
    "id": "gpt-22b",
    "source": "Korthikanti et al. 2022 Table 5",
    "year": "2022",
    "model_family": "GPT",
    "params_b": "22",
    "layers": "48",
    "hidden": "6144",
    "heads": "64",
    "ffn_hidden": "24576",
    "vocab": "51200",
    "seq_len": "2048",
    "chip": "A100-80GB-SXM",
    "num_chips": "8",
    "chips_per_node": "8",
    "dtype": "fp16",
    "tp": "8",
    "pp": "1",
    "dp": "1",
    "cp": "1",
    "microbatch": "4",
    "global_batch_seqs": "4",
    "zero_stage": "0",
    "recompute": "full",
    "seq_parallel": "n",
    "flash_attention": "n",
    "framework": "Megatron-LM",
    "measured_metric": "step_time_s",
    "measured_value": "1.42",
}


def write(path: Path, *rows: dict[str, str]) -> Path:
    """A table of these rows; a column that a row lacks is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def run_of(tmp_path: Path, **cells: str) -> Run:
    """The 22B run with some cells changed."""
    return read_runs(write(tmp_path / "runs.csv", {**GPT_22B, **cells}))[0]
