"""`python -m chipassay.runners` is the `chipassay` command."""

import sys

from .cli import main

sys.exit(main())
