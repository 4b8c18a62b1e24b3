"""The profiles that ship with the package, ``profiles/<chip>.json``; for any other chip of the catalogue one made from published figures.

``python -m chipassay.runners.shipped`` makes them from their sources.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from .catalogue import load_chips
from .errors import UnknownName
from .profile import Profile, load_profile
from .published import profile_from_catalogue

PROFILES = Path(__file__).parent / "profiles"


@lru_cache(maxsize=1)
def shipped_ids() -> tuple[str, ...]:
    """The chips with a shipped profile, by name.

    >>> "h100-sxm-80gb" in shipped_ids()
    True
    """
    return tuple(sorted(path.stem for path in PROFILES.glob("*.json")))


@lru_cache(maxsize=128)
def find_profile(chip_id: str) -> Profile:
    """The shipped profile of a chip, else what the catalogue and published figures give. UnknownName where there is neither.

    >>> find_profile("a800-sxm-80gb").products["bf16"].evidence.level
    'derived'
    """
    name = chip_id.lower()
    if name in shipped_ids():
        return load_profile(PROFILES / f"{name}.json")
    if name in load_chips():
        return profile_from_catalogue(name)
    raise UnknownName("chip", chip_id, {*load_chips(), *shipped_ids()})
