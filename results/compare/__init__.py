"""Two tables held against each other: which rows are partners, how far apart they are, and what may be said of it."""
