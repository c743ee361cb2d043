"""AWS's errors as the core's classes of failure, each with what to do about it.

Error codes: the models of Lambda (Invoke), S3, SQS, SSM, Secrets Manager and CloudFormation in
botocore 1.43.117, and the throttling codes of its standard retries (2026-11); S3's general codes,
which no model has, from memory of its API reference. The exceptions of botocore are known by their
names, so that nobody has to import it to ask.
"""

from __future__ import annotations

import errno
from typing import Any, Literal, NamedTuple

Kind = Literal["Throttled", "Lost", "OutOfMemory", "TimedOut", "Broken"]


class Verdict(NamedTuple):
    """A class of `lambdamr.retry`, by name, and a message that says what to do."""

    kind: Kind
    message: str


_DEPLOY = "Run `lambdamr deploy`; `lambdamr doctor` says what is wrong"
_PERMIT = "Ask for the permission, or use another profile; `lambdamr doctor` checks all of them"
_RENEW = (
    "Renew them (`aws sso login`, or whatever made them) and run again; with checkpoint=... a "
    "second call goes on from where this one stopped"
)
_WRONG = "Check AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and profile="

EXPIRED = frozenset(
    ["ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"]
)
"""Codes of credentials that were good once."""

UNKNOWN = frozenset(
    [
        "AuthFailure",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ]
)
"""Codes of credentials that AWS does not know."""

DENIED = frozenset(
    [
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "EC2AccessDeniedException",
        "KmsAccessDenied",
        "KMSAccessDeniedException",
        "UnauthorizedOperation",
    ]
)
"""Codes of missing permissions."""

THROTTLED = frozenset(
    [
        "TooManyRequestsException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "SlowDown",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "PriorRequestNotComplete",
        "EC2ThrottledException",
        "ENILimitReachedException",
        "SubnetIPAddressLimitReachedException",
        "ENINotReadyException",
        "KmsThrottled",
        "ResourceNotReadyException",
        "SnapStartNotReadyException",
        "ServiceUnavailable",
        "CodeArtifactUserPendingException",
        "OverLimit",
        "TransactionInProgressException",
    ]
)
"""Codes of what is tried again later: requests that are too many, and things in the making."""

_BROKEN: dict[str, str] = {
    **dict.fromkeys(EXPIRED, _RENEW),
    **dict.fromkeys(UNKNOWN, _WRONG),
    **dict.fromkeys(DENIED, _PERMIT),
    **dict.fromkeys(
        (
            "ResourceNotFoundException",
            "NoSuchBucket",
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
            "InvalidRuntimeException",
            "InvalidZipFileException",
            "InvalidSecurityGroupIDException",
            "InvalidSubnetIDException",
            "EFSIOException",
            "EFSMountConnectivityException",
            "EFSMountFailureException",
            "EFSMountTimeoutException",
            "KMSDisabledException",
            "KMSInvalidStateException",
            "KMSNotFoundException",
            "SnapStartException",
            "RecursiveInvocationException",
            "ParameterNotFound",
        ),
        _DEPLOY,
    ),
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"),
        "The stack is in another region: say region=..., or set AWS_REGION",
    ),
    **dict.fromkeys(
        ("RequestTimeTooSkewed", "RequestInTheFuture"),
        "Set the clock of this machine right",
    ),
}

_CREDENTIALS = """
    NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError
    SSOTokenLoadError UnauthorizedSSOTokenError SSOError NoAuthTokenError MetadataRetrievalError
    RefreshWithMFAUnsupportedError InfiniteLoopConfigError UnknownCredentialError
    LoginRefreshRequired LoginError ConfigParseError ConfigNotFound
"""
_SETTINGS = "NoRegionError InvalidRegionError ProfileNotFound InvalidConfigError"


def of_exception(error: BaseException, where: str) -> Verdict | None:
    """The verdict on an exception of botocore or of the connection; None if it is no such thing.

    Args:
        error: the exception.
        where: what was asked for, for the message.
    """
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        return _of_response(response, where)
    names = {kind.__name__ for kind in type(error).__mro__}
    text = f"{where}: {error}"
    if names & set(_CREDENTIALS.split()):
        return Verdict("Broken", f"{text}. There are no AWS credentials that work. {_WRONG}")
    if names & set(_SETTINGS.split()):
        return Verdict("Broken", f"{text}. Say region=... or profile=..., or set AWS_REGION")
    if "ParamValidationError" in names:
        return Verdict("Broken", f"{text}. {_DEPLOY}")
    if _descriptors_are_used_up(error):
        return Verdict(
            "Throttled", f"{where}: this process has no file descriptors left. Raise `ulimit -n`"
        )
    if names & {"BotoCoreError", "HTTPClientError", "ClientError", "OSError", "TimeoutError"}:
        return Verdict("Lost", f"{where}: the connection failed: {error!r:.300}")
    return None


def _descriptors_are_used_up(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _of_response(response: dict[str, Any], where: str) -> Verdict:
    code = str(response["Error"].get("Code", ""))
    said = str(response["Error"].get("Message") or "")
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    reason = response.get("Reason")
    text = f"{where}: {code}{f' ({reason})' if reason else ''}: {said}".rstrip(": ")
    if code == "ResourceConflictException":  # the function is being made, or could not be
        if "failed" in said.lower():
            return Verdict("Broken", f"{text}. {_DEPLOY}")
        return Verdict("Throttled", text)
    if code in _BROKEN:
        return Verdict("Broken", f"{text}. {_BROKEN[code]}")
    if code in THROTTLED or status in (429, 503):
        return Verdict("Throttled", text)
    if code in ("NoSuchKey", "404", "NotFound"):
        return Verdict("Lost", f"{text}. The object was deleted, or has expired")
    if status >= 500 or code in ("RequestTimeout", "InternalError"):
        return Verdict("Lost", text)
    if status in (401, 403):
        return Verdict("Broken", f"{text}. {_PERMIT}")
    return Verdict("Broken", f"{text}. {_DEPLOY}")


def of_function(kind: str, said: str, function: str) -> Verdict:
    """The verdict on a function that gave no answer: ``errorType`` and ``errorMessage``."""
    text = f"{function}: {kind}: {said}".rstrip(": ")
    if "timed out" in said.lower() or kind == "Sandbox.Timedout":
        return Verdict("TimedOut", text)
    if kind in ("Runtime.OutOfMemory", "MemoryError") or "signal: killed" in said:
        return Verdict("OutOfMemory", text)
    if kind in (
        "Runtime.ImportModuleError",
        "Runtime.HandlerNotFound",
        "Runtime.UserCodeSyntaxError",
        "Runtime.MalformedHandlerName",
        "Runtime.BuiltInModuleConflict",
        "Runtime.InvalidEntrypoint",
        "Runtime.InvalidWorkingDir",
        "Runtime.InvalidTaskConfig",
        "Extension.Crash",
    ):
        return Verdict("Broken", f"{text}. What is deployed does not start. {_DEPLOY}")
    return Verdict("Lost", text)
