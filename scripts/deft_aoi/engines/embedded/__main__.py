"""``python -m deft_aoi.engines.embedded``: see the package's docstring for the commands."""

import sys

from deft_aoi.engines.embedded.cli import main

if __name__ == "__main__":
    sys.exit(main())
