"""A session with AWS: where, as whom, and its errors in our words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from botocore import exceptions
from botocore.config import Config

from lambdamr.errors import DeployError, InputError
from lambdamr.runtimes import failures

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_ecr import ECRClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient
    from types_boto3_sts import STSClient

_QUOTA = {"LimitExceeded", "LimitExceededException"}  # of stacks, of roles; not of requests


class Session:
    """Clients of one region and one set of credentials, made when they are first used.

    Args:
        region: of AWS; by default what the environment or the profile says.
        profile: of ``~/.aws/config``; by default botocore's own chain (environment, SSO, roles).
        endpoint_url: of an emulator, for all services.

    Raises:
        InputError: there is no such profile or region, or no region is known.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        if endpoint_url is not None and not endpoint_url.startswith(("http://", "https://")):
            raise InputError(f"--endpoint-url {endpoint_url!r} must begin with http:// or https://")
        self._session = botocore.session.Session(profile=profile)
        self.profile, self.endpoint_url = profile, endpoint_url
        chosen, known = self._session.profile, self._session.available_profiles
        if chosen is not None and chosen not in known:
            raise InputError(
                f"there is no AWS profile {chosen!r}; known are: {', '.join(known) or 'none'}"
            )
        found = region or cast("str | None", self._session.get_config_variable("region"))
        if not found:
            raise InputError(
                "no AWS region is known: pass --region, or set AWS_REGION, "
                "or run `aws configure set region ...`"
            )
        self.region = found
        if endpoint_url is None and found not in (regions := self._regions()):
            near = difflib.get_close_matches(found, regions) or regions
            raise InputError(
                f"botocore knows no Lambda in a region {found!r}; did you mean one of "
                f"{', '.join(near)}? If it is new: pip install --upgrade botocore"
            )

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        """Of the stack."""
        return cast("CloudFormationClient", self._client("cloudformation"))

    @cached_property
    def ecr(self) -> ECRClient:
        """Of the repository for images."""
        return cast("ECRClient", self._client("ecr"))

    @cached_property
    def functions(self) -> LambdaClient:
        """Of the functions; an invocation may take as long as Lambda lets it."""
        return cast("LambdaClient", self._client("lambda", read_timeout=910))

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        """Of the log group."""
        return cast("CloudWatchLogsClient", self._client("logs"))

    @cached_property
    def s3(self) -> S3Client:
        """Of the bucket."""
        return cast("S3Client", self._client("s3"))

    @cached_property
    def sqs(self) -> SQSClient:
        """Of the queue."""
        return cast("SQSClient", self._client("sqs"))

    @cached_property
    def sts(self) -> STSClient:
        """Says who we are."""
        return cast("STSClient", self._client("sts"))

    def _regions(self) -> list[str]:
        partitions = self._session.get_available_partitions()
        return [
            region
            for partition in partitions
            for region in self._session.get_available_regions("lambda", partition)
        ]

    def _client(self, service: str, **config: Any) -> object:
        config = {"retries": {"mode": "standard", "total_max_attempts": 5}} | config
        try:
            return self._session.create_client(
                service,
                region_name=self.region,
                endpoint_url=self.endpoint_url,
                config=Config(connect_timeout=10, **config),
            )
        except ValueError as error:  # botocore has no class for it
            if "Invalid endpoint" not in str(error):
                raise
            raise InputError(
                f"{error}: check AWS_ENDPOINT_URL, which must begin with http:// or https://"
            ) from error


@contextmanager
def in_our_words() -> Iterator[None]:
    """Turn what botocore raises into one error that says what to do.

    Raises:
        DeployError: AWS could not be reached, or refused.
    """
    try:
        yield
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        raise DeployError(explain(error)) from error


def explain(error: exceptions.BotoCoreError | exceptions.ClientError) -> str:
    """What went wrong, and what to do about it."""
    if isinstance(error, exceptions.ClientError):
        return _explain_answer(error)
    match error:
        case exceptions.NoCredentialsError():
            return (
                "no AWS credentials were found: run `aws configure` or `aws sso login`, "
                "or pass --profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        case exceptions.PartialCredentialsError():
            return f"the AWS credentials are not complete: {error}"
        case exceptions.SSOError() | exceptions.TokenRetrievalError():
            return f"the AWS sign-on is over: run `aws sso login` ({error})"
        case exceptions.CredentialRetrievalError():
            return f"the credentials could not be fetched: {error}"
        case exceptions.ConnectionError() | exceptions.HTTPClientError():
            return f"AWS could not be reached: {error}; check the network, proxy and --endpoint-url"
    return str(error)


def code_of(error: exceptions.ClientError) -> str:
    """AWS's own name of the error, as ``AccessDenied``."""
    return error.response.get("Error", {}).get("Code", "")


def _explain_answer(error: exceptions.ClientError) -> str:
    code = code_of(error)
    message = error.response.get("Error", {}).get("Message", "") or str(error)
    if code in failures.EXPIRED:
        return "the AWS credentials have expired: run `aws sso login`, or get new ones"
    if code in failures.UNKNOWN:
        return (
            f"AWS does not know these credentials ({code}): check which are used with "
            "`aws sts get-caller-identity`, or pass --profile"
        )
    if code in failures.DENIED:
        return (
            f"no permission for {error.operation_name}: {message}. What whoever deploys has to "
            "be allowed is in docs/deploy.md"
        )
    if code in _QUOTA:
        return f"{error.operation_name}: {message}. Service Quotas shows the limit, and raises it"
    if code in failures.THROTTLED:
        return f"AWS throttles {error.operation_name} ({code}): wait a minute and run it again"
    return f"{error.operation_name}: {message} ({code})"
