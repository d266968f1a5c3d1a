"""Reads the headers of a request."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Give all values of a header.

    Args:
        name: Its name in lower case.
    """
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def header_of(scope: Scope, name: bytes) -> str | None:
    """Give the first value of a header; None without one."""
    return first_header(scope["headers"], name)


def first_header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Give the first value of a header of an answer, whose names may be in any case; None without one."""
    return next((value.decode("latin-1") for known, value in headers if known.lower() == name), None)


def with_header(scope: Scope, name: bytes, value: str | None) -> Scope:
    """Give a scope with another value of a header; None leaves it out."""
    kept = [(known, old) for known, old in scope["headers"] if known != name]
    return {**scope, "headers": kept if value is None else [*kept, (name, value.encode())]}
