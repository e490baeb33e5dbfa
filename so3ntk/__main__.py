"""``python -m so3ntk``."""

import sys

from so3ntk.cli import main

if __name__ == "__main__":
    sys.exit(main())
