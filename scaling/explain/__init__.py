"""A prediction taken apart: every term with its formula, the numbers put in, its seconds and its source. The terms sum to the step."""

from .explain import explain
from .term import Term

__all__ = ["Term", "explain"]
