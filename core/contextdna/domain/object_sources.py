"""Which objects outside artifacts may be made from. The server reads them with its own rights, so the operator says."""

import re
from contextlib import suppress
from typing import Final

from contextdna.errors import AccessDenied, InvalidInput
from contextdna.values.ids import ProjectId
from contextdna.values.object_place import OBJECT_SCHEME, ObjectPlace, parse_object_place, parse_object_prefix
from contextdna.values.settings import HubSettings

_BLOB: Final = re.compile(r"(?:.*/)?blobs/[0-9a-f]{64}")
"""How stores of ours name the bytes of artifacts: whoever knows a digest must not read what the door would refuse."""
OWN_PROJECT: Final = "{project_id}"


def allowed_object(url: str, project_id: ProjectId, settings: HubSettings) -> ObjectPlace:
    """Read the address of an object that a caller of a project may attach.

    Raises:
        InvalidInput: ``object_unsupported`` or ``object_invalid``.
        AccessDenied: ``object_not_allowed``, whether or not there is such an object.
    """
    if not url.startswith(OBJECT_SCHEME) or not settings.artifacts:
        raise InvalidInput(
            "objects can be attached from s3:// only, where this server keeps its artifacts in S3",
            code="object_unsupported",
            hint="Give a local path, text or base64.",
        )
    try:
        place = parse_object_place(url)
    except ValueError:
        raise InvalidInput(
            "this is no address of an object",
            code="object_invalid",
            hint="Use s3://bucket/key, without . and .. in it.",
        ) from None
    if _BLOB.fullmatch(place.key) or not any(
        allowed.holds(place) for allowed in allowed_prefixes(project_id, settings)
    ):
        raise AccessDenied(
            "this server attaches no objects from there",
            code="object_not_allowed",
            hint="Ask the operator to add the prefix to storage.s3.allowed_sources, or send text or base64.",
        )
    return place


def allowed_prefixes(project_id: ProjectId, settings: HubSettings) -> list[ObjectPlace]:
    """List the prefixes that a project's objects may lie under."""
    own = settings.s3
    listed = list(own.allowed_sources)
    if own.import_prefix:
        bucket = settings.artifacts.removeprefix(OBJECT_SCHEME).partition("/")[0].partition("?")[0]
        listed.append(f"{OBJECT_SCHEME}{bucket}/{own.import_prefix}")
    places = []
    for prefix in listed:
        with suppress(ValueError):  # a project may be called .., which leads nowhere
            places.append(parse_object_prefix(prefix.replace(OWN_PROJECT, project_id)))
    return places
