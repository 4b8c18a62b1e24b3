"""What many chips do together: the patterns, the bandwidths they define, and data that makes their results exact."""
