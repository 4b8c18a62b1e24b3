"""One collective at one size, measured by all ranks in lock step."""
