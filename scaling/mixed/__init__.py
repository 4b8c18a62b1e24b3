"""Several kinds of chips in one job: how to split the layers and the batch over them, and what a step then takes."""
