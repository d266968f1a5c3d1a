"""Doubles of what a test cannot have for real."""

from array import array
from collections.abc import Sequence
from string import ascii_lowercase

from contextdna.errors import StorageUnavailable


class LetterEmbedder:
    """``Embedder`` that counts letters: texts of the same letters are near, and every answer is known beforehand.

    Args:
        model: Its name.
        batch: How many texts it takes at once.
        spare: How many dimensions it has besides the letters; they are 0.
        broken: Whether it fails.
        fails_at: The number of the one call at which it fails, from 1.
    """

    def __init__(
        self, model: str = "letters", *, batch: int = 50, spare: int = 0, broken: bool = False, fails_at: int = 0
    ) -> None:
        self.model = model
        self.batch_max = batch
        self.broken = broken
        self.calls = 0
        self._spare = spare
        self._fails_at = fails_at

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Count letters."""
        self.calls += 1
        if self.broken or self.calls == self._fails_at:
            raise StorageUnavailable("it is down", code="embedder_unavailable", hint="Wait.", retryable=True)
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> bytes:
        counts = [float(text.lower().count(letter)) for letter in ascii_lowercase]
        return array("f", counts + [0.0] * self._spare).tobytes()
