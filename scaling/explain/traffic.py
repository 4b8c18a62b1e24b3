"""What the chips say to each other: each collective with its pattern, bytes, place and number, and what of it is hidden."""

from __future__ import annotations

from collections.abc import Iterator

from chipassay.results.link import bus_factor

from .. import constants
from ..activations import key_value_width
from ..communication import collective_s
from ..placement import Placement
from ..text import seconds
from ..update import EXPERTS
from ..weights import fullest_stage, gradient_bytes
from .case import Case
from .term import Term, one, size_words, whole

NCCL = "ring or tree as NCCL (src/graph/tuning.cc)"


class _Collectives:
    """Collectives of a case, by the prediction's own function."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def seconds(self, pattern: str, place: str, size_bytes: float) -> float:
        case = self.case
        return one(collective_s(pattern, size_bytes, case.places[place], case.machine, case.group.fabric))

    def term(self, kind: str, what: str, pattern: str, place: str, size_bytes: float, count: float) -> Term:
        """``count`` of them in a step, nothing hidden."""
        case, time_s = self.case, self.seconds(pattern, place, size_bytes)
        where = case.places[place]
        members = int(one(where.members))
        rate = f", bus {size_bytes * bus_factor(pattern, members) / time_s / 1e9:.4g} GB/s" if time_s else ""
        return Term(
            kind,
            what,
            "latency + bytes x bus factor / bus bandwidth",
            f"{pattern} of {size_words(size_bytes)}, {place_words(where)}: {seconds(time_s)} each{rate}"
            + ("" if count == 1 else f", x {whole(count)}"),
            count * time_s,
            f"{NCCL}; {self.evidence(where)}",
        )

    def evidence(self, where: Placement) -> str:
        """Of the slowest link that such a group crosses."""
        name = "network between nodes" if one(where.nodes) > 1 else "link in the node"
        found = next((i for i in (*self.case.machine.inputs, *self.case.group.inputs) if i.what == name), None)
        return "no link is crossed" if found is None else f"{found.evidence.level}: {found.evidence.source}"


def place_words(where: Placement) -> str:
    """How a group lies, in words.

    >>> import numpy as np
    >>> place_words(Placement(np.array([16]), np.array([2]), np.array([4])))
    'group of 16, 2 in a node, 4 such at its NICs'
    """
    members, inside = int(one(where.members)), int(one(where.members_per_node))
    if one(where.nodes) <= 1:
        return f"group of {members} in a node"
    return f"group of {members}, {inside} in a node, {int(one(where.groups_per_node))} such at its NICs"


def traffic_terms(case: Case) -> Iterator[Term]:
    """Terms of the kinds tensor_parallel, context_parallel, expert_parallel and data_parallel."""
    said = _Collectives(case)
    yield from _tensor(case, said)
    yield from _context(case, said)
    yield from _experts(case, said)
    yield from _data(case, said)


def _tensor(case: Case, said: _Collectives) -> Iterator[Term]:
    plan = case.plan
    if plan.tp == 1:
        return
    size = one(case.cut.tokens) * case.model.hidden * case.machine.element_bytes
    again = 1 + (plan.recompute_share if plan.recompute == "full" else 0.0)
    count = case.microbatches * case.layers * one(case.layer.tp_exchanges) * (1 + again)
    patterns = ("all_gather", "reduce_scatter") if plan.sequence_parallel else ("all_reduce",)
    terms = [said.term("tensor_parallel", f"TP {pattern}", pattern, "tp", size, count) for pattern in patterns]
    yield from terms
    exposed_s = case.microbatches * case.layers * (one(case.sides[0].tp_s) + one(case.sides[1].tp_s))
    often = one(case.layer.expert_exchanges)
    if often > 0:
        size = one(case.layer.expert_tokens) / often * case.model.hidden * case.machine.element_bytes
        patterns = ("all_gather", "reduce_scatter") if plan.sequence_parallel or plan.ep > 1 else ("all_reduce",)
        count = case.microbatches * case.layers * often * (1 + again)
        shared = [said.term("tensor_parallel", f"experts' TP {pattern}", pattern, "expert_tp", size, count) for pattern in patterns]
        yield from shared
        exposed_s -= sum(term.seconds for term in shared)
    if plan.overlap_tp:
        yield _hidden("tensor_parallel", exposed_s, terms, constants.TP_HIDDEN_SHARE, "products")


def _context(case: Case, said: _Collectives) -> Iterator[Term]:
    plan, model = case.plan, case.model
    if plan.cp == 1:
        return
    size = plan.microbatch * model.seq_len * one(key_value_width(model, case.plans)) * case.machine.element_bytes
    again = plan.recompute_share if plan.recompute == "full" else 0.0
    passages = 3 + again  # forward, and backward with their gradients
    term = said.term("context_parallel", "keys and values", "all_gather", "cp", size, case.microbatches * case.layers * passages)
    yield term
    exposed_s = case.microbatches * case.layers * (one(case.sides[0].cp_s) + one(case.sides[1].cp_s))
    if plan.context_parallel == "ring":
        yield Term(
            "context_parallel",
            "hidden in the ring",
            "at most (cp - 1) / cp of the attention of a pass",
            f"{seconds(exposed_s)} of {seconds(term.seconds)} stay exposed",
            exposed_s - term.seconds,
            "Liu et al. 2023 (arXiv 2310.01889)",
        )


def _experts(case: Case, said: _Collectives) -> Iterator[Term]:
    plan = case.plan
    if plan.ep == 1 or case.model.experts is None:
        return
    size = one(case.layer.dispatched_tokens) * case.model.hidden * case.machine.element_bytes
    again = plan.recompute_share if plan.recompute == "full" else 0.0
    count = case.microbatches * case.layers * 2 * (2 + again)
    term = said.term("expert_parallel", "dispatch and combine", "all_to_all", "ep", size, count)
    yield term
    if plan.schedule == "dualpipe" and plan.pp > 1:
        exposed_s = case.microbatches * case.layers * (one(case.sides[0].ep_s) + one(case.sides[1].ep_s))
        cost = constants.OVERLAP_COST
        yield Term(
            "expert_parallel",
            "hidden beside the paired pass",
            f"-(1 - {cost.value:g}) x the traffic of all but p / 2 + 2 microbatches, at most their compute",
            f"{seconds(exposed_s)} of {seconds(term.seconds)} stay exposed",
            exposed_s - term.seconds,
            f"DeepSeek-V3 (arXiv 2412.19437), section 3.2.1; cost of overlap {cost.evidence.level}: {cost.evidence.source}",
        )


def _hidden(kind: str, exposed_s: float, terms: list[Term], share: constants.Constant, beside: str) -> Term:
    """What overlap takes off, the cost of it counted."""
    total_s = sum(term.seconds for term in terms)
    cost = constants.OVERLAP_COST
    return Term(
        kind,
        f"hidden beside {beside}",
        f"-(1 - {cost.value:g}) x the smaller of {share.value:g} of the traffic and of the {beside}",
        f"{seconds((total_s - exposed_s) / (1 - cost.value))} run beside the {beside}; {seconds(exposed_s)} of {seconds(total_s)} count",
        exposed_s - total_s,
        f"{share.evidence.level}: {share.evidence.source}; cost of overlap {cost.evidence.level}: {cost.evidence.source}",
    )


def _data(case: Case, said: _Collectives) -> Iterator[Term]:
    """Gradients reduced, weights gathered, and the shared token table of both ends."""
    plan, zero = case.plan, case.plan.zero_stage
    dense, expert = (one(weights) for weights in fullest_stage(case.model, case.plans))
    each, element = one(gradient_bytes(case.plans, case.machine)), float(case.machine.element_bytes)
    m = case.microbatches
    often = m if zero >= 2 else 1
    pieces = plan.layers_per_stage(case.model) if zero >= 3 else 1  # sharded weights move layer by layer
    wanted: list[tuple[str, str, str, float, float]] = []

    def add(what: str, pattern: str, place: str, bytes_each: float, count: float) -> None:
        wanted.append((what, pattern, place, bytes_each * dense, count))
        if expert > 0:
            wanted.append((f"{what} of experts", pattern, EXPERTS[place], bytes_each * expert, count))

    if zero == 0:
        add("gradients", "all_reduce", "dp_cp", each, 1)
    else:
        add("gradients", "reduce_scatter", "shard", each, often)
        if one(case.plans.shard) < plan.dp * plan.cp:
            wanted.append(("gradients of replicas", "all_reduce", "replica", each * dense / one(case.plans.shard), often))
            shard = one(case.plans.expert_shard)
            wanted.append(("gradients of replicas of experts", "all_reduce", "expert_replica", each * expert / shard, often))
        add("weights", "all_gather", "shard", element, 2 * m if zero >= 3 else 1)
    terms = [
        said.term("data_parallel", what, pattern, place, size / pieces, count * pieces) for what, pattern, place, size, count in wanted
    ]
    terms = [term for term in terms if term.seconds > 0]
    yield from terms
    table_s = 0.0
    if case.model.tied_embeddings and plan.pp > 1:
        table = float(case.model.vocab) * case.model.hidden / plan.tp * each
        term = said.term("data_parallel", "shared token table", "all_reduce", "embedding", table, 1)
        table_s = term.seconds
        yield term
    if terms and plan.overlap_dp:
        exposed_s = case.prediction.breakdown_s["data_parallel"] - table_s
        yield _hidden("data_parallel", exposed_s, terms, constants.DP_HIDDEN_SHARE, "passes")
