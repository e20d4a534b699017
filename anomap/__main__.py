"""``python -m anomap`` is ``anomap``."""

import sys

from anomap.cli import main

sys.exit(main())
