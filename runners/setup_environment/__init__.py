"""Makes the virtual environment that ``make bench`` and ``make test`` run in, with the torch that fits this machine.

Run by the system's Python before anything is installed (``python3 -m runners.setup_environment``), so it uses the standard library
alone and imports its own modules relatively. A torch that already drives an accelerator here is reused, never replaced; a machine
without an accelerator never gets gigabytes of CUDA packages. Decisions are pure functions, tested with made-up facts: the branches
for machines with an accelerator have not been run on one.
"""
