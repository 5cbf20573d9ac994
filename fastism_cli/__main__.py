"""``python -m fastism_cli`` is ``fastism``."""

import sys

from fastism_cli.cli import main

if __name__ == "__main__":
    sys.exit(main())
