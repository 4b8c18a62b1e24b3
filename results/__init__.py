"""The table: one tidy row per measurement, the chip catalogue, and the profiles made from rows.

Knows how measurements are written, read and described; knows nothing of how they are made.
"""
