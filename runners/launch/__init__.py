"""A job that torchrun, srun, mpirun or the user's own shells started: one process per rank, on one host or many.

Each launched process is a light supervisor with one child that is the rank; rank 0's supervisor leads and writes the file.
"""
