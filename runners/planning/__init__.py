"""The best plans as a table, as Markdown, as CSV, and in words."""
