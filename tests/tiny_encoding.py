"""A small encoding for tests that count tokens: every byte, and a few words."""

import base64
from pathlib import Path
from typing import Final

BYTES: Final = [bytes([byte]) for byte in range(256)]
TOKENS: Final = [*BYTES, b"th", b"the", b" the", b" t", b" th"]


def write_encoding(folder: Path) -> Path:
    """Write it as a file of ranks; gives its path."""
    path = folder / "tiny.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(TOKENS)))
    return path
