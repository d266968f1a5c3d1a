"""A database in plain dicts: the reference model of the ``Database`` port, and what tests and trials run on."""

from contextdna.backends.in_memory.blobs import InMemoryBlobStore
from contextdna.backends.in_memory.database import InMemoryDatabase, open_in_memory

__all__ = ["InMemoryBlobStore", "InMemoryDatabase", "open_in_memory"]
