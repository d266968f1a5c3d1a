"""Frozen dataclasses that every layer speaks."""
