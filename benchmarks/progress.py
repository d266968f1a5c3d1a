"""How far a benchmark is: one line on standard error that rewrites itself, on a terminal only."""

import sys


def show_progress(text: str) -> None:
    """Write the line anew; it must not get shorter."""
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


def end_progress() -> None:
    """Leave the line as it is and go on below."""
    if sys.stderr.isatty():
        print(file=sys.stderr)
