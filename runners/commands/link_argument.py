"""The option that asks what would be if a chip had another link, network, memory or power, and what it is told that this is worth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import ChipassayError

if TYPE_CHECKING:
    from chipassay.scaling.cluster import Cluster, Group
    from chipassay.scaling.mixed.answer import MixedOption
    from chipassay.scaling.predict import Prediction


def add_link_argument(parser: argparse.ArgumentParser) -> None:
    """``--link CHIP.FIELD=VALUE``, more than once; ``chipassay.scaling.what_if.parse_changes`` reads it."""
    told = (
        "what if: CHIP.scaleup=900GB/s (the link in the node per chip, both ways together as in datasheets; one way: 450GB/s/direction), "
        ".nics=4 (adapters of a node), .nic=400Gb/s (one way), .oversubscription=2, .memory=141GiB, .bandwidth=4.8TB/s or .power=500W; "
        "once per change; the answer says what it is worth"
    )
    parser.add_argument("--link", action="append", default=[], metavar="CHIP.FIELD=VALUE", help=told)


def worth_words(group: Group, changed: Prediction, as_it_is: Prediction | ChipassayError) -> list[str]:
    """Lines: what ``--link`` changed of the group, and the step beside that of the chips as they are (or why these have none)."""
    from chipassay.scaling.plan_text import write_plan
    from chipassay.scaling.text import seconds
    from chipassay.scaling.what_if import changes_of

    told = [f"what if {one}" for one in changes_of(group)]
    if not told:
        return ["--link changes nothing: the catalogue says so already"]
    if isinstance(as_it_is, ChipassayError):
        return [*told, f"without that: {as_it_is}"]
    plan = "the same plan" if as_it_is.plan == changed.plan else f"their own best plan ({write_plan(as_it_is.plan)})"
    text = f"without that, by {plan}: step {seconds(as_it_is.step_time_s)} on {as_it_is.chips} chips"
    if not as_it_is.fits:
        return [*told, f"{text}, but it does not fit"]
    return [*told, _difference(text, changed.tokens_per_s / as_it_is.tokens_per_s)]


def mixed_worth_words(cluster: Cluster, changed: MixedOption, as_it_is: MixedOption | ChipassayError) -> list[str]:
    """The same for several kinds of chips."""
    from chipassay.scaling.text import seconds
    from chipassay.scaling.what_if import changes_of

    told = [f"what if {one}" for group in cluster.groups for one in changes_of(group)]
    if not told:
        return ["--link changes nothing: the catalogue says so already"]
    if isinstance(as_it_is, ChipassayError):
        return [*told, f"without that: {as_it_is}"]
    same = as_it_is.prediction.plan == changed.prediction.plan
    plan = "the same plan" if same else f"their own best plan ({as_it_is.text})"
    text = f"without that, by {plan}: step {seconds(as_it_is.step_time_s)} on {sum(as_it_is.chips)} chips"
    return [*told, _difference(text, changed.tokens_per_s / as_it_is.tokens_per_s)]


def _difference(text: str, ratio: float) -> str:
    """What was changed makes training faster or slower; ``ratio``: of the tokens per second."""
    if abs(ratio - 1) < 5e-4:
        return f"{text}: what was changed makes no difference (below 0.1 %)"
    return f"{text}: what was changed makes training {100 * abs(ratio - 1):.1f} % {'faster' if ratio > 1 else 'slower'}"


def worth_dict(group: Group, changed: Prediction, as_it_is: Prediction | ChipassayError) -> dict[str, Any]:
    """The same for JSON."""
    from chipassay.scaling.plan_text import write_plan
    from chipassay.scaling.what_if import changes_of

    if isinstance(as_it_is, ChipassayError):
        return {"changes": list(changes_of(group)), "why_not_without": str(as_it_is)}
    return {
        "changes": list(changes_of(group)),
        "step_time_s_without": as_it_is.step_time_s,
        "tokens_per_s_without": as_it_is.tokens_per_s,
        "plan_text_without": write_plan(as_it_is.plan),
        "chips_without": as_it_is.chips,
        "fits_without": as_it_is.fits,
        "speedup": changed.tokens_per_s / as_it_is.tokens_per_s if as_it_is.fits else None,
    }


def mixed_worth_dict(cluster: Cluster, changed: MixedOption, as_it_is: MixedOption | ChipassayError) -> dict[str, Any]:
    """The same for several kinds of chips and JSON."""
    from chipassay.scaling.what_if import changes_of

    changes = [one for group in cluster.groups for one in changes_of(group)]
    if isinstance(as_it_is, ChipassayError):
        return {"changes": changes, "why_not_without": str(as_it_is)}
    return {
        "changes": changes,
        "step_time_s_without": as_it_is.step_time_s,
        "tokens_per_s_without": as_it_is.tokens_per_s,
        "plan_text_without": as_it_is.text,
        "chips_without": sum(as_it_is.chips),
        "speedup": changed.tokens_per_s / as_it_is.tokens_per_s,
    }
