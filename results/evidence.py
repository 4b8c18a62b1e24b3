"""Where a number comes from: measured here, published, derived from those, or a stated guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["measured", "published", "derived", "assumed"]
LEVELS: tuple[Level, ...] = ("measured", "published", "derived", "assumed")


@dataclass(frozen=True)
class Evidence:
    """Where a number comes from. ``level`` is one of LEVELS, strongest first; ``source`` says it in words."""

    level: Level
    source: str
    date: str | None = None
