"""A comparison for readers: terminal, pull request, spreadsheet, program; and how often this machine cries wolf."""
