"""Traffic beside compute: what of it stays exposed, and what it costs the compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import constants


def exposed_s(communication_s: Any, hideable_s: Any, share: Any) -> Any:
    """What of a communication does not run beside ``hideable_s`` of compute, if at most ``share`` of it can; and what compute loses."""
    hidden = np.minimum(hideable_s, share * communication_s)
    return communication_s - hidden + constants.OVERLAP_COST.value * hidden
