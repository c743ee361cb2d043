"""Clients of AWS for one job, and the stack that was deployed.

The core's retry loop is the only one: botocore's own is off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lambdamr import __version__, retry
from lambdamr.errors import BrokenExecutorError
from lambdamr.runtimes import failures

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

STACK = "lambdamr"
"""The name of the stack where nobody says another."""

READ_TIMEOUT = 930
"""Seconds without a byte after which a connection is given up; a function may take 900."""

CONNECT_TIMEOUT = 10
"""Seconds."""

_CONNECTIONS = 100_000  # no limit: the core has one, and what was abandoned keeps its connection

_KEEP_ALIVE = 45  # seconds; NAT gateways drop what was silent for 350 (VPC guide), homes sooner

_loaders: dict[str | None, Any] = {}  # they remember the models of services, which load slowly


@dataclass(frozen=True, slots=True)
class Account:
    """Where a job runs, and as whom. None: what the standard chain says."""

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """What was deployed."""

    functions: tuple[str, ...]  # the memory ladder, smallest first
    bucket: str
    queue_url: str | None = None


class Session:
    """Makes the clients of one job.

    Args:
        account: where, and as whom.

    Raises:
        BrokenExecutorError: aiobotocore is not installed, or there is no such profile.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._session = _new_session(account.profile)

    @property
    def region(self) -> str:
        """The region that is used, or "" if none is set."""
        region = self._account.region or self._session.get_config_variable("region")
        return str(region or "")

    @contextlib.asynccontextmanager
    async def lazy_client(self, service: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """A client that is made when it is first asked for."""
        made: list[Any] = []
        turn = asyncio.Lock()
        async with contextlib.AsyncExitStack() as stack:

            async def get() -> Any:
                async with turn:
                    if not made:
                        made.append(await stack.enter_async_context(self.client(service)))
                return made[0]

            yield get

    @contextlib.asynccontextmanager
    async def client(self, service: str, attempts: int = 1) -> AsyncIterator[Any]:
        """A client, for as long as it is needed; ``attempts`` of a request, by botocore."""
        from aiobotocore.config import AioConfig

        path_style = {"addressing_style": "path"} if self._endpoint(service) else None
        config = AioConfig(
            retries={"total_max_attempts": attempts, "mode": "standard"},
            max_pool_connections=_CONNECTIONS,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            connector_args={"socket_factory": _socket},
            parameter_validation=False,
            request_checksum_calculation="when_required",  # what is read is authenticated
            response_checksum_validation="when_required",
            s3=path_style,
            user_agent=f"lambdamr/{__version__}",  # botocore makes its own one anew for each call
        )
        with translated(f"the client of {service}"):
            made = self._session.create_client(
                service,
                region_name=self._account.region,
                endpoint_url=self._account.endpoint_url,
                config=config,
            )
            try:
                client = await made.__aenter__()
            except ValueError as error:  # botocore has no class for it
                if "Invalid endpoint" not in str(error):
                    raise
                raise retry.Broken(
                    f"{error}. Check AWS_ENDPOINT_URL: it must begin with http:// or https://"
                ) from error
        try:
            yield client
        finally:
            await made.__aexit__(None, None, None)

    def _endpoint(self, service: str) -> str | None:
        names = f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL"
        return self._account.endpoint_url or next(filter(None, map(os.environ.get, names)), None)

    async def stack(self, name: str) -> Stack:
        """What the stack of this name says that it has.

        Raises:
            Broken: there is none, or it is not ours; says what to do.
        """
        stack = f"stack {name!r} in {self.region or 'no region'}"
        async with self.client("cloudformation") as client:
            try:
                with translated(stack):
                    answer = await client.describe_stacks(StackName=name)
            except retry.Broken as error:
                if "does not exist" not in str(error):
                    raise
                raise retry.Broken(
                    f"there is no {stack}. Run `lambdamr deploy`, or say region=... or stack=..."
                ) from error
        found = answer["Stacks"][0]
        outputs = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", ())}
        if not {"BucketName", "FunctionNames"} <= outputs.keys():
            raise retry.Broken(
                f"the {stack} is {found.get('StackStatus')} and has not the outputs of a stack of "
                f"lambdamr. Run `lambdamr deploy` and wait for its end, or say stack=..."
            )
        functions = tuple(one.strip() for one in outputs["FunctionNames"].split(","))
        return Stack(functions, outputs["BucketName"], outputs.get("QueueUrl"))


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn errors of AWS and of the connection into the core's classes of failure."""
    try:
        yield
    except Exception as error:
        verdict = failures.of_exception(error, where)
        if verdict is None:
            raise
        raise failed(verdict) from error


def failed(verdict: failures.Verdict) -> retry.TaskFailed:
    """The exception for a verdict."""
    kind: type[retry.TaskFailed] = getattr(retry, verdict.kind)
    return kind(verdict.message)


def _new_session(profile: str | None) -> AioSession:
    try:
        from aiobotocore.session import AioSession
    except ImportError as error:
        raise BrokenExecutorError(
            "LambdaExecutor needs aiobotocore: pip install 'lambdamr[aws]'"
        ) from error
    with translated("the AWS configuration"):
        session = AioSession(profile=profile)
        path = session.get_config_variable("data_path")
        loader = _loaders.setdefault(path, session.get_component("data_loader"))
        session.register_component("data_loader", loader)
        return session


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket whose peer is asked now and then whether it is still there.

    botocore's ``tcp_keepalive`` does nothing in aiobotocore, which has its sockets from aiohttp.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):  # Linux, macOS, both
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEP_ALIVE)
    return made
