"""`python -m ordered_executor`: see `cli`."""

import sys

from ordered_executor.cli import main

if __name__ == "__main__":
    sys.exit(main())
