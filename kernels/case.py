"""A case: one operation at one shape and dtype, with its FLOPs, its bytes, its inputs and its check."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from .arrays import Array, Arrays, Output, each

DTYPE_BYTES: dict[str, int] = {"fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1, "int8": 1}

UNIT_ROUNDOFF: dict[str, float] = {"fp64": 2.0**-53, "fp32": 2.0**-24, "tf32": 2.0**-11, "fp16": 2.0**-11, "bf16": 2.0**-8}
UNIT_ROUNDOFF |= {"fp8_e4m3": 2.0**-4, "fp8_e5m2": 2.0**-3}
"""Half the gap between 1 and the next number: IEEE 754-2019, table 3.5; bf16, tf32 and fp8 (Micikevicius et al., arXiv 2209.05433, table 1)
from their 7, 10, 3 and 2 mantissa bits."""


@dataclass(frozen=True)
class Check:
    """How far an output is from the float64 reference, and how far it may be. NaN never passes."""

    error: float
    limit: float

    @property
    def passed(self) -> bool:
        return bool(self.error <= self.limit)


@dataclass(frozen=True, kw_only=True)
class Case(ABC):
    """One operation at one shape. Field names of a subclass are column names of the results table."""

    op: ClassVar[str]
    """Name of the operation, the ``op`` column."""
    limited_by: ClassVar[str]
    """Which peak the result is a share of: ``compute`` or ``memory``; ``link`` (between host and device) and ``overhead`` have none."""

    dtype: str
    math_mode: str | None = None
    """Set where one dtype has several arithmetics: fp32 is ``ieee``, and ``tf32`` is a dtype of its own."""

    @property
    def data(self) -> str:
        """Values of the inputs, the ``data`` column: what ``Arrays.normal`` makes of the dtype."""
        return "uniform_integers" if self.dtype == "int8" else "normal"

    @property
    @abstractmethod
    def flops(self) -> float:
        """Floating-point operations by the textbook count."""

    @property
    @abstractmethod
    def bytes(self) -> float:
        """Bytes that must move: each input read once, each output written once."""

    @property
    @abstractmethod
    def footprint_bytes(self) -> float:
        """Device memory that inputs and output occupy."""

    @abstractmethod
    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """Random inputs on the device."""

    @abstractmethod
    def make_output(self, arrays: Arrays) -> Output:
        """An output buffer (a tuple of them where there are several outputs) of values that no right result can have
        (``Arrays.unwritten``), so that an unwritten element shows.

        Make a new one for each kernel: a buffer used twice holds the last kernel's right answer. An operation that updates in place
        starts from a copy of its inputs instead; its check then has to tell a step that was made from one that was not.
        """

    def begin(self, inputs: tuple[Array, ...], output: Output) -> None:  # noqa: B027 (most operations have no state)
        """Put ``output`` into the state that its first call starts from; nothing where calls do not build on each other."""

    @abstractmethod
    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Output, seed: int) -> Check:
        """Compare ``output`` with a float64 reference."""

    def refresh(self, arrays: Arrays, output: Output) -> None:
        """Make the output ready for the next timed call: random values, so that power and caches see no old answer.

        An operation that updates in place keeps its state and overrides this.
        """
        for array in each(output):
            arrays.refill(array)

    def _set_math_mode(self) -> None:
        """fp32 matrix arithmetic is IEEE and nothing else, so that no row can mean TF32 by it."""
        if self.dtype == "fp32" and self.math_mode is None:
            object.__setattr__(self, "math_mode", "ieee")
        if (self.dtype == "fp32") != (self.math_mode == "ieee") and self.dtype != "fp64":
            raise ValueError(f"{self.op} of {self.dtype} with math_mode {self.math_mode!r}: fp32 is 'ieee'; for TF32 write dtype='tf32'")

    def columns(self) -> dict[str, Any]:
        """The case as columns of the results table."""
        return {"op": self.op, **{name: value for name, value in self.__dict__.items() if value is not None}}
