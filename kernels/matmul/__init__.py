"""Matrix multiplication, alone, in batches and by groups of rows: the operation that decides how fast a transformer trains."""

from .batched_case import BatchedMatmulCase
from .case import MatmulCase
from .grouped_case import GroupedMatmulCase

__all__ = ["BatchedMatmulCase", "GroupedMatmulCase", "MatmulCase"]
