"""The names that the command line shows before anything heavy is imported."""

BACKENDS = ("loky", "threading", "dask", "ray")
"""Processes of this machine, its threads, workers of a Dask cluster, of a Ray cluster."""
