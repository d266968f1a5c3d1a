"""Reading an object whole: within a deadline, and of one version, even where it takes two attempts."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from botocore.exceptions import ClientError

from contextdna.backends.s3.calls import S3Calls
from contextdna.backends.s3.errors import REPEATED, is_absent, is_there_already
from contextdna.errors import ContextDnaError

_CHUNK_BYTES: Final = 64 * 1024


class Absent(Exception):
    """There is no such object."""


class Changed(Exception):
    """The object was changed between two attempts."""


class TooLarge(Exception):
    """The object has more bytes than wanted; none was read."""


async def read_object(calls: S3Calls, where: Mapping[str, Any], *, bytes_max: int = 0) -> tuple[bytes, dict[str, Any]]:
    """Read an object; gives what S3 told about it, too.

    One answer of S3 is of one version. Where it breaks off, the second one is asked for by the version, or by the ETag,
    of the first.

    Args:
        calls: The client.
        where: Bucket and key, and what else to ask for.
        bytes_max: The most that is wanted; 0: whatever it has.

    Raises:
        Absent: No such object.
        Changed: It was changed meanwhile.
        TooLarge: It has more than ``bytes_max``.
        StorageUnavailable: S3 is away, or refuses us.
    """
    pinned: dict[str, Any] = {}
    for is_last in (False, True):
        answer = await calls.run(partial(_opened, {**where, **pinned}))
        if bytes_max and answer["ContentLength"] > bytes_max:
            answer["Body"].close()
            raise TooLarge
        pinned = _pin(answer)
        try:
            return await _drained(calls, answer), answer
        except ContextDnaError as error:
            if is_last or error.code not in REPEATED:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _opened(wanted: Mapping[str, Any], client: Any) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = client.get_object(**wanted)
    except ClientError as error:
        if is_there_already(error):
            raise Changed from None
        if is_absent(error):
            raise Absent from None
        raise
    return answer


def _pin(answer: Mapping[str, Any]) -> dict[str, Any]:
    version = answer.get("VersionId")
    return {"VersionId": version} if version and version != "null" else {"IfMatch": answer["ETag"]}


async def _drained(calls: S3Calls, answer: Mapping[str, Any]) -> bytes:
    body = answer["Body"]
    is_wanted = True

    def drain(_client: Any) -> bytes:
        read = bytearray()
        while is_wanted and (chunk := body.read(_CHUNK_BYTES)):
            read += chunk
        return bytes(read)

    try:
        return await calls.once(drain, size_bytes=answer["ContentLength"])
    finally:
        is_wanted = False
        body.close()
