"""``python3 -m runners.setup_environment``, run in the repository's root; the Makefile does."""

import sys

from .installing import main

sys.exit(main())
