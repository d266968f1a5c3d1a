"""What purged records leave behind: their blobs, and traces in the database's files."""

import logging
from collections.abc import Sequence

from contextdna.errors import ContextDnaError
from contextdna.hub.blobs import BlobRoom
from contextdna.ports.database import Database

logger = logging.getLogger(__name__)


class Remains:
    """Removes what a committed purge leaves behind. The rows are gone: what fails here is tried again at upkeep."""

    def __init__(self, database: Database, blobs: BlobRoom) -> None:
        self._database = database
        self._blobs = blobs
        self._pending = True  # a process before this one may have left some

    def expect(self) -> None:
        """Note that a transaction at work will leave traces; whoever runs it need not come to shred them."""
        self._pending = True

    async def shred(self, blob_keys: Sequence[str] = ()) -> None:
        """Remove blobs that purged records referred to, then the traces of rows in logs and free pages."""
        self._pending = True
        await self._blobs.discard(blob_keys)
        try:
            await self._database.shred_remains()
        except ContextDnaError as error:
            self._pending = True
            logger.warning("traces of purged records stay in the database's files for now: %s", error.code)
        else:
            self._pending = False

    async def retry(self) -> None:
        """Shred again where it failed before."""
        if self._pending:
            await self.shred()
