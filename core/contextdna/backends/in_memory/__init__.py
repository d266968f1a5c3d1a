"""A database in plain dicts: the reference model of the ``Database`` port, and what tests and trials run on."""

from contextdna.backends.in_memory.blobs import InMemoryBlobStore
from contextdna.backends.in_memory.database import InMemoryDatabase, open_in_memory
from contextdna.backends.in_memory.durable import DurableInMemoryDatabase, open_durable

__all__ = ["DurableInMemoryDatabase", "InMemoryBlobStore", "InMemoryDatabase", "open_durable", "open_in_memory"]
