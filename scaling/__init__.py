"""The model: chips, cluster, transformer and plan in; time, memory and exchange rates out. README.md says how.

Knows only profiles and the catalogue; knows nothing of how anything was measured.
"""
