"""A real training step on the chip at hand, beside what the scaling model says of it: `chipassay validate --here`."""
