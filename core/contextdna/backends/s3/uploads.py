"""Uploads in parts: several at a time, each with its own checksum, and nothing left of one that is not finished."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from botocore.exceptions import ClientError

from contextdna.backends.s3.calls import S3Calls
from contextdna.backends.s3.errors import is_absent, unavailable
from contextdna.errors import ContextDnaError
from contextdna.ports.storage import Progress

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 4
"""Parts of one upload that are on their way together."""
_ABORT_DEADLINE_S: Final = 5.0
_PARTS_MAX: Final = 10_000
"""Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""


def parts_of(data: bytes, part_bytes: int) -> list[memoryview]:
    """Cut bytes into parts of one size; the last may be shorter."""
    size = max(part_bytes, -(-len(data) // _PARTS_MAX))
    view = memoryview(data)
    return [view[start : start + size] for start in range(0, len(data), size)]


class Upload:
    """One upload that has begun."""

    def __init__(self, calls: S3Calls, which: Mapping[str, Any]) -> None:
        self._calls = calls
        self._which = which
        self._sent: dict[int, dict[str, Any]] = {}

    @classmethod
    @asynccontextmanager
    async def begun(
        cls, calls: S3Calls, at: Mapping[str, Any], encryption: Mapping[str, str]
    ) -> AsyncIterator["Upload"]:
        """Begin an upload; whatever ends the context early aborts it.

        Raises:
            StorageUnavailable: S3 is away, or refuses us.
        """
        begun = await calls.ask("create_multipart_upload", {**at, **calls.checksums.upload, **encryption})
        upload = cls(calls, {**at, "UploadId": begun["UploadId"]})
        try:
            yield upload
        except BaseException:
            await upload._abort()
            raise

    async def send(self, parts: Sequence[memoryview], digests: Sequence[bytes], progress: Progress | None) -> None:
        """Send all parts; the first that fails ends it.

        Raises:
            StorageUnavailable: S3 is away, refuses us, or got other bytes.
        """
        total = sum(len(part) for part in parts)
        done = 0
        places = anyio.Semaphore(_AT_ONCE)
        failure: ContextDnaError | None = None

        async def one(number: int) -> None:
            nonlocal done, failure
            async with places:
                try:
                    await self._send_part(number, parts[number - 1], digests[number - 1])
                except ContextDnaError as error:
                    failure = failure or error
                    tasks.cancel_scope.cancel()
                    return
            done += len(parts[number - 1])
            if progress is not None and done < total:
                await progress(done, total)

        async with anyio.create_task_group() as tasks:
            for number in range(1, len(parts) + 1):
                tasks.start_soon(one, number)
        if failure is not None:
            raise failure

    async def complete(self, expected: str) -> bool:
        """Make the object of its parts; where the same bytes stand by now they are written anew.

        Gives False where S3 knows nothing of the upload: an answer was lost and it is complete, or somebody aborted it.

        Raises:
            StorageUnavailable: S3 is away, refuses us, or made something else of the parts.
        """
        listed = {"Parts": [self._sent[number] for number in sorted(self._sent)]}

        def finish(client: Any) -> dict[str, Any] | None:
            try:
                made: dict[str, Any] = client.complete_multipart_upload(**self._which, MultipartUpload=listed)
            except ClientError as error:
                if is_absent(error):
                    return None
                raise
            return made

        made = await self._calls.run(finish)
        checksums = self._calls.checksums
        if (
            made is not None
            and checksums.is_listed
            and made.get(checksums.told)
            and not checksums.is_told(expected, made)
        ):
            raise unavailable("storage_garbled", "S3 made something else of the parts than was sent")
        return made is not None

    async def _send_part(self, number: int, part: memoryview, digest: bytes) -> None:
        checksums = self._calls.checksums
        request = {**self._which, "PartNumber": number, "Body": bytes(part), **checksums.sent(digest)}
        sent = await self._calls.ask("upload_part", request, size_bytes=len(part))
        named = checksums.sent(digest) if checksums.is_listed else {}
        self._sent[number] = {"PartNumber": number, "ETag": sent["ETag"], **named}

    async def _abort(self) -> None:
        """Leave no parts behind; what cannot be aborted now is at the next upkeep."""
        with anyio.CancelScope(shield=True):
            try:
                await self._calls.ask("abort_multipart_upload", self._which, deadline_s=_ABORT_DEADLINE_S)
            except ContextDnaError as error:
                logger.warning("parts of an upload that failed stay in S3 for now: %s", error.code)
