"""The kinds of questions, one a file. Each has the fields that it takes, the axes that its answer can name, and its cases."""
