"""Reads the headers of a request."""

from __future__ import annotations

from starlette.types import Scope


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Give all values of a header.

    Args:
        name: Its name in lower case.
    """
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
