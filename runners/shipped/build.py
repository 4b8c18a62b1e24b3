"""One shipped profile from its sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from chipassay.results.catalogue import find_chip
from chipassay.results.errors import InputError
from chipassay.results.profile import Curve, Profile
from chipassay.results.published import profile_from_catalogue

from ..normalise import profile_of
from .attentions import attentions_of
from .links import links_of
from .own_rows import own_rows, own_sustained_power
from .products import Corrections, products_of
from .recipes import RECIPES, Recipe
from .relatives import memory_op_by_rule
from .rounding import rounded

MEASURED_HERE = ("cpu-zen-4-2c", "h200-sxm-141gb")
"""Chips whose profile cannot be made without the rows of this repository."""


def recipe_of(chip_id: str) -> Recipe:
    """The recipe of a chip; InputError where it has none."""
    for recipe in RECIPES:
        if recipe.chip_id == chip_id:
            return recipe
    raise InputError(f"{chip_id} has no recipe in runners/shipped/recipes.py; known: {', '.join(recipe.chip_id for recipe in RECIPES)}")


def build(recipe: Recipe, parent: Callable[[str], Profile], gap: Callable[[], Corrections]) -> Profile:
    """The profile of a chip, numbers rounded. ``parent``: a profile that was built before; ``gap``: see ``products.corrections``.

    Raises InputError where own rows or the tables are not there.
    """
    chosen = own_rows(recipe.chip_id)
    if chosen is None and recipe.chip_id in MEASURED_HERE:
        raise InputError(f"{recipe.chip_id} was measured, but its rows are not here; rebuild in a checkout of the repository")
    if recipe.cpu:
        assert chosen is not None
        return rounded(profile_of(chosen))
    chip, base = find_chip(recipe.chip_id), profile_from_catalogue(recipe.chip_id)
    parents = {parent_id: parent(parent_id) for parent_id in recipe.parents}
    products = products_of(chip, base, parents, gap)
    profile = replace(
        base,
        products=products,
        attentions=attentions_of(chip, products, parents),
        links=links_of(recipe.chip_id),
    )
    if chosen is not None:
        own = profile_of(chosen, by_shape=False)
        profile = replace(
            profile,
            memory_ops=own.memory_ops,
            launch_s=own.launch_s,
            host_link_bytes_per_s=own.host_link_bytes_per_s,
            sustained_power_w=own.sustained_power_w or own_sustained_power(recipe.chip_id),
            memory=own.memory or base.memory,
            memory_bytes=own.memory_bytes or base.memory_bytes,
            loads=own.loads,
            overlaps=own.overlaps,
        )
    else:
        profile = replace(profile, memory_ops=_memory_ops(profile, parents))
    return rounded(profile)


def _memory_ops(profile: Profile, parents: Mapping[str, Profile]) -> dict[str, Curve]:
    """Memory-bound operations by rule from the first parent that measured them; none where no parent did."""
    if profile.memory is None:
        return {}
    for parent_id, parent in parents.items():
        measured = {name: curve for name, curve in parent.memory_ops.items() if curve.evidence.level == "measured"}
        if measured and parent.memory is not None:
            of = find_chip(parent_id)
            return {name: memory_op_by_rule(curve, parent.memory, of, profile.memory) for name, curve in sorted(measured.items())}
    return {}
