"""Published training runs against predictions of them: which are shipped, how each is set up, and how far off the model is."""
