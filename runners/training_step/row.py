"""One case as one row: what was measured, what was predicted, and how far they are apart. Flat, for a CSV that grows line by line."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError

from .measure import Case, Measured
from .prediction import Predicted

COLUMNS = (
    "date", "torch", "chip", "device", "model", "parameters", "microbatch", "seq_len", "dtype", "recompute", "compiled", "attention",
    "status", "reason",
    "warm_up_steps", "steps", "step_s", "step_low_s", "step_high_s", "step_min_s", "step_max_s", "forward_s", "backward_s", "optimizer_s",
    "tokens_per_s", "mfu", "first_loss", "last_loss",
    "state_bytes", "kept_bytes", "peak_bytes", "reserved_bytes", "device_bytes",
    "clock_hz", "clock_min_hz", "power_w", "temperature_c", "throttled", "throttle_reasons",
    "matmul_s", "attention_s", "memory_bound_s", "optimizer_kernels_s", "waiting_s", "kernels", "kernels_unknown",
    "profile", "plan", "predicted_step_s", "predicted_low_s", "predicted_high_s", "step_error", "inside",
    "predicted_forward_s", "predicted_backward_s", "predicted_optimizer_s", "predicted_mfu",
    "predicted_matmul_s", "predicted_attention_s", "predicted_memory_bound_s", "predicted_recompute_s", "predicted_host_s",
    "predicted_state_bytes", "predicted_activations_bytes", "predicted_logits_bytes", "predicted_peak_bytes",
    "peak_error", "predicted_total_bytes", "predicted_fits", "not_predicted",
)  # fmt: skip
"""Errors are predicted over measured, minus 1. ``inside``: the measured step lies within the predicted 80 % interval."""
SAME_NAME = ("clock_hz", "clock_min_hz", "power_w", "temperature_c", "throttled", "throttle_reasons")
PREDICTED_PARTS = ("matmul", "attention", "memory_bound", "recompute", "host")


def case_columns(case: Case, dtype: str, parameters: int) -> dict[str, Any]:
    """What was asked for; the rest of the row is empty."""
    return {
        **dict.fromkeys(COLUMNS),
        "model": case.model.name,
        "parameters": parameters,
        "microbatch": case.microbatch,
        "seq_len": case.model.seq_len,
        "dtype": dtype,
        "recompute": case.recompute,
        "compiled": case.compiled,
    }


def measured_columns(case: Case, measured: Measured, peak_flops_per_s: float | None) -> dict[str, Any]:
    """What was measured. ``mfu`` counts attention in full, as the prediction's does; None where the chip's peak is unknown."""
    tokens_per_s = case.microbatch * case.model.seq_len / measured.step_s
    low_s, high_s = measured.interval_s
    found: dict[str, Any] = {
        "warm_up_steps": measured.warm_up_steps,
        "steps": len(measured.times_s),
        "step_s": measured.step_s,
        "step_low_s": low_s,
        "step_high_s": high_s,
        "step_min_s": min(measured.times_s),
        "step_max_s": max(measured.times_s),
        "tokens_per_s": tokens_per_s,
        "first_loss": measured.first_loss,
        "last_loss": measured.last_loss,
        "state_bytes": measured.state_bytes,
        "kept_bytes": measured.kept_bytes,
        "peak_bytes": measured.peak_bytes,
        "reserved_bytes": measured.reserved_bytes,
        "device_bytes": measured.device_bytes,
        "kernels_unknown": measured.kernels_unknown or None,
        **{name: measured.condition.get(name) for name in SAME_NAME},
    }
    if peak_flops_per_s is not None:
        found["mfu"] = tokens_per_s * case.model.training_flops_per_token(causal=False) / peak_flops_per_s
    if measured.parts_s is not None:
        found |= dict(zip(("forward_s", "backward_s", "optimizer_s"), measured.parts_s, strict=True))
    if measured.kernels is not None:
        kernels = asdict(measured.kernels)
        found |= {"optimizer_kernels_s" if name == "optimizer_s" else name: value for name, value in kernels.items()}
    return found


def predicted_columns(predicted: Predicted, profile: str) -> dict[str, Any]:
    """What the scaling model says."""
    prediction = predicted.prediction
    return {
        "profile": profile,
        "plan": prediction.plan.describe(),
        "predicted_step_s": prediction.step_time_s,
        "predicted_low_s": prediction.low_s,
        "predicted_high_s": prediction.high_s,
        "predicted_forward_s": predicted.forward_s,
        "predicted_backward_s": predicted.backward_s,
        "predicted_optimizer_s": predicted.optimizer_s,
        "predicted_mfu": prediction.mfu,
        **{f"predicted_{kind}_s": prediction.breakdown_s[kind] for kind in PREDICTED_PARTS},
        "predicted_state_bytes": predicted.state_bytes,
        "predicted_activations_bytes": prediction.memory_bytes["activations"],
        "predicted_logits_bytes": prediction.memory_bytes["logits"],
        "predicted_peak_bytes": predicted.allocated_bytes,
        "predicted_total_bytes": prediction.memory_total_bytes,
        "predicted_fits": prediction.fits,
    }


def compared(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its errors, where both sides are known.

    >>> compared({"step_s": 2.0, "predicted_step_s": 1.8, "predicted_low_s": 1.5, "predicted_high_s": 1.9})["inside"]
    False
    """
    found = dict(row)
    if row.get("step_s") and row.get("predicted_step_s"):
        found["step_error"] = row["predicted_step_s"] / row["step_s"] - 1
        found["inside"] = row["predicted_low_s"] <= row["step_s"] <= row["predicted_high_s"]
    if row.get("peak_bytes") and row.get("predicted_peak_bytes"):
        found["peak_error"] = row["predicted_peak_bytes"] / row["peak_bytes"] - 1
    return found


def check_file(path: Path) -> None:
    """Raise FileError where rows could not be added to the file: it has other columns, or cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8", newline="") as file:
            file.seek(0)
            header = next(csv.reader(file), None)
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, "cannot be written", mend="choose another place with --out") from error
    if header not in (None, list(COLUMNS)):
        raise FileError(path, "has other columns than these rows", line=1, mend="choose another file with --out")


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add the row to the file, with the names of the columns if it is the first. Raises FileError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    try:
        if not path.exists() or not path.stat().st_size:
            writer.writeheader()
        writer.writerow({name: _cell(value) for name, value in row.items()})
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror})", mend="choose another place with --out") from error


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value
