"""The start of a process: `streamgate`, and `python -m service`, which without arguments serves.

Ctrl-C while modules are imported ends it without a word. Nothing is imported here before that is seen to.
"""

import os
import signal
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line of this process, or these arguments, and return the exit code."""
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:  # else: ignored, as under nohup
        # Not an exception: it would come out of whatever is being imported, which may swallow it.
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
    from service import cli

    signal.signal(signal.SIGINT, interrupt)
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["serve"]))
