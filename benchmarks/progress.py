"""How far a benchmark is: a bar on standard error that rewrites itself, on a terminal only."""

import sys

_WIDTH = 30


def show_progress(label: str, done: int, total: int) -> None:
    """Draw the bar anew; the last step leaves it as it is and goes on below."""
    if not sys.stderr.isatty():
        return
    filled = _WIDTH * done // max(total, 1)
    bar = "█" * filled + "·" * (_WIDTH - filled)
    end = "\n" if done >= total else ""
    print(f"\r\x1b[K{label:32} {bar} {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)
