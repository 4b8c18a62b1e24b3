"""Results of other tools as rows: one file a tool, found by itself. What has no place in a row is reported, never dropped silently."""
