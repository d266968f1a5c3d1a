"""What a process holds to search by meaning: questions as vectors, and the vectors of each project it searches."""

import hashlib
import threading
from collections import OrderedDict
from typing import Final

from contextdna.domain.vectors import Shelf
from contextdna.values.embedding import EmbeddingSpace
from contextdna.values.ids import ProjectId

TEXT_CHARS_MAX: Final = 2_000
"""What is embedded of a text: its beginning. A static model averages over all words, so more would tell less."""

_QUESTIONS_MAX: Final = 1_000
_PROJECT_BYTES_MAX: Final = 200 * 1024 * 1024  # 200,000 vectors of 256 dimensions
_ALL_BYTES_MAX: Final = 2 * _PROJECT_BYTES_MAX


class Recall:
    """A cache, bounded in memory. It says what is near, never who may read: that is asked of the database each time.

    Used by several threads.

    Args:
        model: The name of the embedder at work.
        project_bytes_max: A project whose vectors take more is held as one bit a dimension.
        all_bytes_max: Beyond it, the projects that were not searched for longest are let go.
    """

    def __init__(
        self, model: str, *, project_bytes_max: int = _PROJECT_BYTES_MAX, all_bytes_max: int = _ALL_BYTES_MAX
    ) -> None:
        self.model = model
        self.project_bytes_max = project_bytes_max
        self._all_bytes_max = all_bytes_max
        self._questions: OrderedDict[bytes, bytes] = OrderedDict()
        self._shelves: OrderedDict[ProjectId, Shelf] = OrderedDict()
        self._lock = threading.Lock()

    def question(self, text: str) -> bytes | None:
        """Give the float32 vector of a question, where it was embedded lately."""
        with self._lock:
            return self._questions.get(_key(text))

    def keep_question(self, text: str, vector: bytes) -> None:
        """Keep the vector of a question, and no word of it."""
        key = _key(text)
        with self._lock:
            self._questions[key] = vector
            self._questions.move_to_end(key)
            if len(self._questions) > _QUESTIONS_MAX:
                self._questions.popitem(last=False)

    def shelf(self, project_id: ProjectId, space: EmbeddingSpace) -> Shelf:
        """Give the vectors held of a project in a space; empty where there are none yet."""
        with self._lock:
            held = self._shelves.get(project_id)
            if held is None or (held.space, held.dimension) != (space.number, space.dimension):
                return Shelf(space.number, space.dimension, gone=space.gone)
            self._shelves.move_to_end(project_id)
            return held

    def keep_shelf(self, project_id: ProjectId, shelf: Shelf) -> None:
        """Keep the vectors of a project."""
        with self._lock:
            self._shelves[project_id] = shelf
            self._shelves.move_to_end(project_id)
            size_bytes = sum(held.size_bytes for held in self._shelves.values())
            while len(self._shelves) > 1 and size_bytes > self._all_bytes_max:
                _, gone = self._shelves.popitem(last=False)
                size_bytes -= gone.size_bytes


def _key(text: str) -> bytes:
    beginning = text[:TEXT_CHARS_MAX].encode("utf-8", "surrogatepass")
    return hashlib.blake2b(beginning, digest_size=16).digest()
