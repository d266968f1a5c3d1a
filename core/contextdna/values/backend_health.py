"""How a backend that the server depends on is doing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """What one small question to a backend told."""

    engine: str
    """Its product."""
    sound: bool
    latency_ms: float
    """How long the answer took, or the wait for none."""
    problem: str = ""
    """Code of the error, where it is not sound."""
    waiting: int = 0
    """How much waits on this side for the backend to take it."""
