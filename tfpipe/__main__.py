"""`python -m tfpipe`, the same as `tfpipe`."""

import sys

from tfpipe.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
