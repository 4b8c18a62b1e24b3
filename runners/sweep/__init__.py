"""Many predictions: the product of lists in a TOML, in parallel here or on a cluster, rows appended to a CSV as they come."""
