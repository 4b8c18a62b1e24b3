"""The best plan of a model on up to so many chips of one kind: which plans there are, what each is worth, and why the second lost."""
