"""`python -m service`: the command line; without arguments, `streamgate serve`."""

import sys

from service.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["serve"]))
