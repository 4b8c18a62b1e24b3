"""Measuring happens in child processes, so that a crash, a hang or a lost chip costs one row and not the run.

A child reads requests and writes answers as JSON lines; nothing else ever reaches that pipe.
"""
