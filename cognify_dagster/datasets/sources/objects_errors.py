"""What went wrong at an object store, in our own words.

Invariants:
    * No text of a provider or client library reaches a message: it can hold signed addresses, key ids and strings to sign. Only the
      provider's error code and HTTP status do, and only if they look like such.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cognify_dagster.datasets.errors import SourceChangedError, SourceError

_CODE = re.compile(r"[A-Za-z]{3,60}\Z")
_CODE_IN_TEXT = re.compile(r"<Code>([A-Za-z]{3,60})</Code>")
_STATUS_IN_TEXT = re.compile(r"status code: (\d{3})\b")

_KINDS = {
    "AccessDenied": "denied",
    "AllAccessDisabled": "denied",
    "AccountProblem": "denied",
    "AuthorizationHeaderMalformed": "region",
    "PermanentRedirect": "region",
    "IllegalLocationConstraintException": "region",
    "InvalidAccessKeyId": "credentials",
    "SignatureDoesNotMatch": "credentials",
    "ExpiredToken": "credentials",
    "InvalidToken": "credentials",
    "TokenRefreshRequired": "credentials",
    "RequestTimeTooSkewed": "clock",
    "NoSuchBucket": "bucket",
    "InvalidBucketName": "bucket",
    "NoSuchKey": "missing",
    "NoSuchVersion": "missing",
    "PreconditionFailed": "changed",
    "InvalidRange": "changed",
    "InvalidObjectState": "archived",
    "SlowDown": "throttled",
    "Throttling": "throttled",
    "ThrottlingException": "throttled",
    "RequestLimitExceeded": "throttled",
    "TooManyRequests": "throttled",
    "RequestTimeout": "network",
    "NotImplemented": "unsupported",
    "MethodNotAllowed": "unsupported",
}
_STATUSES = {
    301: "region", 307: "region", 401: "credentials", 403: "denied", 404: "missing", 405: "unsupported", 408: "network",
    412: "changed", 416: "changed", 429: "throttled", 500: "server", 501: "unsupported", 502: "server", 503: "throttled", 504: "server",
}  # fmt: skip
_NAMES = {
    "NoCredentialsError": "none",
    "PartialCredentialsError": "none",
    "CredentialRetrievalError": "none",
    "ProfileNotFound": "none",
    "TokenRetrievalError": "none",
    "UnauthorizedSSOTokenError": "none",
    "SSOTokenLoadError": "none",
    "PermissionDeniedError": "denied",
    "PermissionError": "denied",
    "UnauthenticatedError": "credentials",
    "PreconditionError": "changed",
    "FileNotFoundError": "missing",
    "EndpointConnectionError": "network",
    "ConnectTimeoutError": "network",
    "ReadTimeoutError": "network",
    "ConnectionClosedError": "network",
    "ResponseStreamingError": "network",
    "IncompleteReadError": "network",
    "HTTPClientError": "network",
    "ProxyConnectionError": "network",
    "ClientPayloadError": "network",
    "ServerDisconnectedError": "network",
    "ClientConnectionError": "network",
    "ConnectionError": "network",
    "TimeoutError": "network",
    "SSLError": "certificate",
}
_ADVICE = {
    "denied": "access is denied; allow the credentials to list the bucket and to read its objects",
    "credentials": "the credentials are not accepted; check key, secret and session token",
    "none": "no usable credentials were found; give key and secret, a profile, or anon=True in storage_options, or set the environment variables",
    "clock": "the clock of this machine is wrong by too much for signed requests; set it",
    "region": "the bucket lies in another region; give client_kwargs={'region_name': …} in storage_options",
    "bucket": "the bucket does not exist; check its name and the endpoint",
    "archived": "the object is archived; restore it first, or name it in ignore",
    "throttled": "the store asks for fewer requests, after all repeats; try again later",
    "network": "the store cannot be reached or broke off the answer, after all repeats; check endpoint and network",
    "certificate": "the store's TLS certificate is not accepted; check endpoint and certificates",
    "server": "the store reports an error of its own, after all repeats; try again later",
    "unsupported": "the store does not offer this request",
}
_RETRY = frozenset({"throttled", "network", "server"})


@dataclass(frozen=True)
class Failure:
    """A provider's or client's exception, classified.

    Attributes:
        kind: one of the words of the tables above, or ``other``.
        detail: error code, status or exception class, safe to show.
        retry: whether trying again can help.
    """

    kind: str
    detail: str

    @property
    def retry(self) -> bool:
        """Whether trying again can help."""
        return self.kind in _RETRY

    @property
    def advice(self) -> str:
        """What it means and what to do."""
        return _ADVICE.get(self.kind, "the request failed")


def classify(exc: BaseException) -> Failure:
    """Find out what an exception of botocore, s3fs, obstore or the network stack means."""
    code, status = "", 0
    names: list[str] = []
    seen: BaseException | None = exc
    while seen is not None and len(names) < 8:
        response = getattr(seen, "response", None)
        if isinstance(response, dict) and "Error" in response:
            code = code or str(response["Error"].get("Code", ""))
            status = status or int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)
        elif type(seen).__module__.startswith("obstore") or (not names and "Server returned non-2xx" in str(seen)):
            text = str(seen)
            code = code or (found[1] if (found := _CODE_IN_TEXT.search(text)) else "")
            status = status or (int(found[1]) if (found := _STATUS_IN_TEXT.search(text)) else 0)
            if not status and "HTTP" in text:
                names.append("EndpointConnectionError")
        names += [kind.__name__ for kind in type(seen).__mro__]
        seen = seen.__cause__
    if code.isdigit():  # a HEAD has no body, so botocore gives the status as code
        status, code = status or int(code), ""
    code = code if _CODE.match(code) else ""
    kind = (
        _KINDS.get(code) or _STATUSES.get(status) or next((_NAMES[name] for name in names if name in _NAMES), "other")
    )
    shown = code or type(exc).__name__
    return Failure(kind, f"{shown}, HTTP {status}" if status else shown)


def source_failed(location: str, what: str, failure: Failure) -> SourceError:
    """The error of a whole source."""
    return SourceError(f"source {location} {what}: {failure.advice} ({failure.detail})")


def object_failed(location: str, shown: str, failure: Failure) -> SourceError:
    """The error of one object, by its path as shown to people."""
    if failure.kind == "changed":
        return object_changed(location, shown, "was replaced or removed after it was listed")
    if failure.kind == "missing":
        return object_changed(location, shown, "vanished after it was listed")
    return SourceError(f"object {shown} in source {location} cannot be read: {failure.advice} ({failure.detail})")


def object_changed(location: str, shown: str, what: str) -> SourceChangedError:
    """The error of an object that is no longer the one that was listed."""
    return SourceChangedError(
        f"object {shown} in source {location} {what}; take the snapshot when nothing writes to it, "
        "or turn on versioning for the bucket"
    )
