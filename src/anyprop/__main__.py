"""`python -m anyprop` is the command `anyprop`."""

import sys

from anyprop.cli import main

if __name__ == "__main__":
    sys.exit(main())
