"""The pipeline of one training step: closed forms for searching, an exact simulation, and its timeline as a trace and a picture."""
