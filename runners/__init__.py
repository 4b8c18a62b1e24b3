"""The doing: find the chip, measure, write rows, normalise them to profiles, and the command line."""
