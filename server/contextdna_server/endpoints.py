"""Addresses that keys and identity are taken from: protected on their way, or of this machine."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own: nothing else reaches what is bound to it."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_protected(url: str) -> bool:
    """Tell whether what comes from a URL is what its owner sent: https, or http on this machine, without a user."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or any(char.isspace() for char in url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
