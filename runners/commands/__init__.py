"""One file per command: HELP, add_arguments(parser), execute(arguments) -> exit code."""
