"""Libraries that carry collectives, one a file."""
