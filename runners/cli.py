"""The command line: `chipassay COMMAND`. Each command is one file in `commands/`; nothing heavy is imported before it is used."""

from __future__ import annotations

import argparse
import importlib
import json
import keyword
import os
import sys
from collections.abc import Sequence

COMMANDS = (
    "doctor",
    "bench",
    "run",
    "gpu",
    "profile",
    "profiles",
    "predict",
    "plan",
    "equate",
    "sweep",
    "scenario",
    "validate",
    "report",
    "compare",
    "check",
    "import",
)

EXIT_CODES = """exit codes: 0 fine, 1 the asked-for check failed, 2 bad input,
3 nothing could be measured (or the chip went away), 130 interrupted"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="chipassay",
        description="Measures what an accelerator is really worth, and how many of one chip it takes to replace another.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="store_true", help="print the version and end")
    subparsers = root.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        # A module cannot be called `import`: a command whose name is a keyword lies in a file with an underscore after it.
        module = f"{name}_" if keyword.iskeyword(name) else name
        command = importlib.import_module(f"{__package__}.commands.{module}")
        sub = subparsers.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        command.add_arguments(sub)
        sub.set_defaults(execute=command.execute)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code says how it went."""
    arguments = parser().parse_args(argv)
    if arguments.version:
        from .report.facts import chipassay_version

        print(f"chipassay {chipassay_version()}")
        return 0
    if arguments.command is None:
        parser().print_help()
        return 2
    from chipassay.results.errors import ChipassayError

    from .say import say

    try:
        return int(arguments.execute(arguments))
    except ChipassayError as error:
        if arguments.json:
            print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        say(f"chipassay: {error}", to=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("chipassay: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone: not an error. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
