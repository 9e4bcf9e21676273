"""`python -m i0t.standardize` is `i0t standardize`."""

import sys

from i0t.commands.standardize import main

if __name__ == "__main__":
    sys.exit(main())
