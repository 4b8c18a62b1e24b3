"""The pytest plugin: the chip as a fixture, and a benchmark fixture whose numbers are rows of the results table."""
