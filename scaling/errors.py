"""The mistakes the scaling model can name, beside those of the results."""

from __future__ import annotations

from chipassay.results.errors import ChipassayError, InputError


class NotModelled(InputError):
    """A kind of model, cluster or plan that exists but is not modelled here: refused, not approximated."""


class IllegalPlan(InputError):
    """A plan that cannot run: degrees that do not divide, or that ask for more than there is."""


class MissingCell(InputError):
    """The profile lacks a number that nothing else can stand in for."""


class NoPlanFits(ChipassayError):
    """No plan of this model fits in the memory of this cluster. ``needed_bytes`` is the least any plan asked of one chip."""

    exit_code = 1

    def __init__(self, problem: str, needed_bytes: float | None = None) -> None:
        super().__init__(problem)
        self.needed_bytes = needed_bytes
