"""From measured times to the models by shape of a profile."""
