"""Protocols that a backend fulfils."""
