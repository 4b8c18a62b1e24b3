"""Is this number normal? Rows against what is physically possible, what is expected of that chip, and what rows say of each other."""
