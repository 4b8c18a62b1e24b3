"""A row in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

PARTS = ("forward", "backward", "optimizer")
PARTS_APART = 0.2
"""Parts are timed one by one, with a wait after each: in nine trainings on an H200 they came to 1.00 to 1.11 of the step, the most where
the host rules it. Further off, this share beyond the step's own interval, something else had the machine."""


def told(row: Row) -> list[str]:
    """The lines of one row."""
    kind = "torch.compile" if row["compiled"] else "eager"
    title = f"{row['model']}, {row['microbatch']} x {row['seq_len']} tokens, {row['dtype']}, {kind}"
    title += ", full recomputation" if row["recompute"] == "full" else ""
    title += f", {row['attention']} attention" if row["attention"] else ""
    if row["status"] != "ok":
        reason = f"  {row['status'].replace('_', ' ')}: {row['reason']}"
        if row["status"] == "out_of_memory" and row["predicted_total_bytes"] is not None:
            fits = "fits" if row["predicted_fits"] else "does not fit"
            return [title, reason, f"  predicted: it takes {_gb(row['predicted_total_bytes'])}, which {fits}"]
        return [title, reason]
    lines = [title, _step(row)]
    if row["forward_s"] is not None:
        lines.append(f"  parts      {', '.join(_pair(row, name, f'{name}_s', f'predicted_{name}_s') for name in PARTS)}{_unlike(row)}")
    if row["matmul_s"] is not None:
        # What is recomputed is products, attention and passes again: the prediction tells it by itself.
        kernels = (("products", "matmul"), ("attention", "attention"), ("passes over memory", "memory_bound"))
        parts = [_pair(row, words, f"{name}_s", f"predicted_{name}_s") for words, name in kernels]
        if row["predicted_recompute_s"]:
            parts.append(f"recomputed, of these three ({_ms(row['predicted_recompute_s'])})")
        parts.append(_pair(row, "optimizer", "optimizer_kernels_s", "predicted_optimizer_s"))
        parts.append(_pair(row, "no kernel", "waiting_s", "predicted_host_s"))
        lines.append(f"  kernels    {', '.join(parts)}")
    elif row["kernels_unknown"]:
        lines.append(f"  kernels    not told: {row['kernels_unknown']}")
    lines += [_memory(row), _chip(row)]
    if row["not_predicted"]:
        lines.append(f"  no prediction: {row['not_predicted']}")
    return lines


def _unlike(row: Row) -> str:
    """A warning where the parts do not add up to the step."""
    whole_s = sum(row[f"{name}_s"] for name in PARTS)
    if row["step_low_s"] * (1 - PARTS_APART) <= whole_s <= row["step_high_s"] * (1 + PARTS_APART):
        return ""
    return f"; they come to {_ms(whole_s)}, not to the step: too noisy, something else has the machine"


def closing(rows: Sequence[Row]) -> str:
    """What all rows come to, in one sentence."""
    good = [row for row in rows if row["step_error"] is not None]
    if not good:
        return f"{sum(row['status'] == 'ok' for row in rows)} of {len(rows)} measured; none beside a prediction"
    mean = sum(abs(row["step_error"]) for row in good) / len(good)
    inside = sum(bool(row["inside"]) for row in good)
    memory = [abs(row["peak_error"]) for row in good if row["peak_error"] is not None]
    text = f"{len(good)} of {len(rows)} beside a prediction: mean |error| of the step {mean:.1%}, {inside} inside the 80 % interval"
    return text + (f"; of the peak memory {sum(memory) / len(memory):.1%}" if memory else "")


def _ms(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds * 1e3:.4g} ms"


def _pair(row: Row, words: str, measured: str, predicted: str) -> str:
    """Measured, and predicted in brackets."""
    beside = "" if row[predicted] is None else f" ({_ms(row[predicted])})"
    return f"{words} {_ms(row[measured])}{beside}"


def _step(row: Row) -> str:
    spread = f"95 %: {row['step_low_s'] * 1e3:.4g} to {row['step_high_s'] * 1e3:.4g}, {row['steps']} steps"
    text = f"  step       {_ms(row['step_s'])} measured ({spread})"
    text += f", {row['tokens_per_s']:,.0f} tokens/s"
    text += "" if row["mfu"] is None else f", MFU {row['mfu']:.1%}"
    if row["predicted_step_s"] is None:
        return text
    where = "inside" if row["inside"] else "outside"
    interval = f"80 %: {row['predicted_low_s'] * 1e3:.4g} to {row['predicted_high_s'] * 1e3:.4g}"
    return f"{text}; {_ms(row['predicted_step_s'])} predicted ({interval}): {row['step_error']:+.1%}, {where} its interval"


def _gb(size_bytes: float | None) -> str:
    return "?" if size_bytes is None else f"{size_bytes / 1e9:.4g} GB"


def _memory(row: Row) -> str:
    text = f"  memory     states {_gb(row['state_bytes'])}"
    text += "" if row["predicted_state_bytes"] is None else f" ({_gb(row['predicted_state_bytes'])})"
    if row["peak_bytes"] is None:
        return f"{text}; the peak is not counted on this device"
    if row["kept_bytes"] is not None:
        beside = "" if row["predicted_activations_bytes"] is None else f" (activations {_gb(row['predicted_activations_bytes'])})"
        text += f", kept for the backward pass {_gb(row['kept_bytes'])}{beside}"
    text += f", peak {_gb(row['peak_bytes'])}"
    text += "" if row["peak_error"] is None else f" ({_gb(row['predicted_peak_bytes'])}: {row['peak_error']:+.1%})"
    text += f", given away by the device {_gb(row['device_bytes'])}"
    return text + ("" if row["predicted_total_bytes"] is None else f" ({_gb(row['predicted_total_bytes'])})")


def _chip(row: Row) -> str:
    parts = [f"loss {row['first_loss']:.3f} to {row['last_loss']:.3f}"]
    if row["clock_hz"] is not None:
        parts.append(f"clock {row['clock_hz'] / 1e9:.2f} GHz")
    if row["power_w"] is not None:
        parts.append(f"{row['power_w']:.0f} W")
    if row["temperature_c"] is not None:
        parts.append(f"{row['temperature_c']:.0f} C")
    if row["throttled"]:
        parts.append(f"slowed down: {row['throttle_reasons'] or 'its clock fell'}")
    return f"  while      {', '.join(parts)}"
