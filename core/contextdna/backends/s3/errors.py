"""What errors of boto3 mean in our tree. No text of the driver or the server is passed on: it may quote credentials."""

import re
from collections.abc import Mapping
from typing import Final

import botocore.exceptions as driver

from contextdna.errors import ContextDnaError, StorageUnavailable

DRIVER_ERRORS: Final = (driver.BotoCoreError, driver.ClientError, driver.HTTPClientError, OSError)
"""Whatever boto3 raises for a request."""

_HINTS: Final[Mapping[str, str]] = {
    "storage_unreachable": "Check that S3 runs and that storage.artifacts names it; the call may be repeated.",
    "storage_timeout": "Try again; a longer storage.s3.deadline_s gives a slow S3 more time.",
    "storage_busy": "Try again.",
    "storage_login_refused": "Check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, …), the region and the clock.",
    "storage_no_permission": "Allow GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload.",
    "storage_bucket_missing": "Make the bucket, or name another in storage.artifacts.",
    "storage_insecure": "Check the certificate of the endpoint; AWS_CA_BUNDLE names an authority of your own.",
    "storage_garbled": "The bytes were changed on their way; nothing was kept. Try again.",
    "storage_full": "Free space in S3 or raise its limits; nothing was kept.",
    "storage_url_invalid": "Write storage.artifacts as s3://bucket/prefix?endpoint_url=https://…&region=….",
    "storage_error": "Run the doctor command; if it finds nothing, report this as a bug.",
}
_RETRYABLE: Final = frozenset(
    {"storage_unreachable", "storage_timeout", "storage_busy", "storage_garbled", "storage_full"}
)
REPEATED: Final = _RETRYABLE - {"storage_full"}
"""What the same request, sent once more at once, may get over."""

_SAID: Final[Mapping[str, str]] = {
    "storage_busy": "S3 is short of resources",
    "storage_login_refused": "S3 refused the credentials",
    "storage_no_permission": "S3 refused a permission",
    "storage_bucket_missing": "the bucket of the artifacts is not there",
    "storage_garbled": "S3 got other bytes than were sent",
    "storage_full": "S3 has no room for the bytes",
    "storage_error": "S3 refused the request",
}
# Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList, and what MinIO adds
_BY_CODE: Final[Mapping[str, str]] = {
    "NoSuchBucket": "storage_bucket_missing",
    "InvalidAccessKeyId": "storage_login_refused",
    "SignatureDoesNotMatch": "storage_login_refused",
    "AuthorizationHeaderMalformed": "storage_login_refused",
    "ExpiredToken": "storage_login_refused",
    "InvalidToken": "storage_login_refused",
    "RequestTimeTooSkewed": "storage_login_refused",
    "BadDigest": "storage_garbled",
    "InvalidDigest": "storage_garbled",
    "XAmzContentSHA256Mismatch": "storage_garbled",
    "XAmzContentChecksumMismatch": "storage_garbled",
    "IncompleteBody": "storage_garbled",
    "RequestTimeout": "storage_busy",
    "OperationAborted": "storage_busy",
    "ConditionalRequestConflict": "storage_busy",
    "QuotaExceeded": "storage_full",
    "XMinioStorageFull": "storage_full",
}
_ABSENT: Final = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchUpload"})
_BY_STATUS: Final[Mapping[int, str]] = {
    401: "storage_login_refused",
    403: "storage_no_permission",
    409: "storage_busy",
    429: "storage_busy",
    501: "storage_error",
    507: "storage_full",
}
_NO_CREDENTIALS: Final = (
    driver.NoCredentialsError,
    driver.PartialCredentialsError,
    driver.CredentialRetrievalError,
    driver.ProfileNotFound,
    driver.ConfigNotFound,
    driver.ConfigParseError,
    driver.TokenRetrievalError,
    driver.UnauthorizedSSOTokenError,
)
_UNFIT: Final = (
    driver.NoRegionError,
    driver.ParamValidationError,
    driver.InvalidRegionError,
    driver.UnknownEndpointError,
    driver.InvalidEndpointConfigurationError,
)
_CUT_OFF: Final = (driver.ConnectionError, driver.HTTPClientError, driver.IncompleteReadError, OSError)
_PLAIN: Final = re.compile(r"[A-Za-z0-9.]{1,48}")


def status_of(error: BaseException) -> int:
    """Give the HTTP status that S3 answered; 0 where it did not."""
    if not isinstance(error, driver.ClientError):
        return 0
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


def code_of(error: BaseException) -> str:
    """Give the code that S3 answered, where it is one."""
    told = error.response.get("Error", {}).get("Code") if isinstance(error, driver.ClientError) else ""
    return told if told and _PLAIN.fullmatch(told) else ""


def is_absent(error: driver.ClientError) -> bool:
    """Tell whether the object is not there, as opposed to its bucket, or to S3: a proxy says 404, too."""
    if error.operation_name.startswith("Head"):  # whose answers have no body, and so no code
        return status_of(error) == 404
    return code_of(error) in _ABSENT


def is_there_already(error: BaseException) -> bool:
    """Tell whether a condition was not met: another object stands there, or not the one that was meant."""
    return status_of(error) == 412


def mapped_error(error: BaseException) -> ContextDnaError:
    """Say in our tree what an error of the driver means."""
    if isinstance(error, driver.ClientError):
        status, told = status_of(error), code_of(error)
        code = _BY_CODE.get(told) or _BY_STATUS.get(status) or ("storage_busy" if status >= 500 else "storage_error")
        return unavailable(code, f"{_SAID[code]} ({told or status})")
    name = type(error).__name__
    if isinstance(error, _NO_CREDENTIALS):
        return unavailable("storage_login_refused", f"there are no credentials for S3 ({name})")
    if isinstance(error, driver.FlexibleChecksumError):
        return unavailable("storage_garbled", "what S3 gave is not what it has a checksum of")
    if isinstance(error, driver.SSLError):
        return unavailable("storage_insecure", "the connection to S3 cannot be made secure")
    if isinstance(error, driver.ReadTimeoutError | TimeoutError):
        return unavailable("storage_timeout", f"S3 did not answer in time ({name})")
    if isinstance(error, _CUT_OFF):
        return unavailable("storage_unreachable", f"S3 cannot be reached ({name})")
    if isinstance(error, (*_UNFIT, ValueError)):
        return unavailable("storage_url_invalid", f"storage.artifacts cannot be used as it is ({name})")
    return unavailable("storage_error", f"S3 cannot be asked ({name})")


def unavailable(code: str, message: str) -> StorageUnavailable:
    """Make an error with its advice."""
    return StorageUnavailable(message, code=code, hint=_HINTS[code], retryable=code in _RETRYABLE)
