"""Scenarios: public claims about chips as questions in TOML, worked out by the scaling model and judged by limits that the file states."""
