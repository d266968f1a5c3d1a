"""The command ``contextdna``, also as ``python -m contextdna_server``."""

import sys
from contextlib import nullcontext

from contextdna_server.startup import leaving_at_signals


def run() -> None:
    """Run the command line; ``serve`` can be ended while the rest of the program is still imported."""
    with leaving_at_signals() if sys.argv[1:2] == ["serve"] else nullcontext():
        from contextdna_server.cli import main

        main(prog_name="contextdna")


if __name__ == "__main__":
    run()
