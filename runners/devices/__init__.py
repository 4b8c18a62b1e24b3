"""The chip under test: what it is (facts), how it is timed (timer), what state it is in (condition)."""
