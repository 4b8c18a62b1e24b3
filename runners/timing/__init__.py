"""The timing engine: what one sample is, when to stop sampling, and what the samples say. Knows no kernel and no chip."""
