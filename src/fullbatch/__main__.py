"""``python -m fullbatch`` is the command ``fullbatch``."""

import sys

from fullbatch.cli import main

sys.exit(main())
