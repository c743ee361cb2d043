"""Looks for what is wrong with a stack and the way to it; each fault says what to do."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from botocore.exceptions import BotoCoreError, ClientError

import lambdamr
from lambdamr.deploy import bucket, stack as stacks
from lambdamr.deploy.session import Session, explain
from lambdamr.deploy.settings import HERE, here
from lambdamr.deploy.stack import Stack
from lambdamr.errors import LambdamrError
from lambdamr.executors import aws_prices
from lambdamr.executors.aws_lambda import LambdaExecutor
from lambdamr.runtimes.s3 import JOBS

_OLD = timedelta(days=1)  # who has jobs that run longer knows it
_FEW = 100  # invocations at once; an account has 1,000, a new one fewer (Lambda quotas, 2026-11)
_TRIPS = 4  # the first of them may start a function cold
_PATIENCE = 60.0  # seconds that a round trip may take


@dataclass(frozen=True, slots=True)
class Finding:
    """What one examination found.

    Attributes:
        topic: what was looked at.
        verdict: "good", "odd" (it works, and is not as it should be) or "bad".
        found: in a line.
        remedy: what to do about it; "" if it is good.
    """

    topic: str
    verdict: Literal["good", "odd", "bad"]
    found: str
    remedy: str = ""


def examine(session: Session, name: str) -> Iterator[Finding]:
    """Look at everything, from the near to the far; ends where nothing further can be seen."""
    yield Finding("client", "good", f"lambdamr {lambdamr.__version__}, {here()}")
    who = _tried("credentials", partial(_who, session))
    yield who
    if who.verdict == "bad":
        return
    try:
        found = stacks.find(session, name)
    except (LambdamrError, BotoCoreError, ClientError) as error:
        yield _failed("stack", error)
        return
    yield _stack(session, name, found)
    if found is None or found.is_busy or found.is_empty:
        return
    versions = _versions(found)
    yield versions
    yield _tried("bucket", partial(_bucket, session, found))
    yield _tried("queue", partial(_queue, session, found))
    yield _tried("concurrency", partial(_concurrency, session))
    for function in found.functions:
        state = _tried(function, partial(_function, session, function))
        yield state
        if "bad" not in {state.verdict, versions.verdict}:
            yield _tried("round trip", partial(_round_trip, session, found, function))
    yield _tried("left behind", partial(_leftovers, session, found))
    yield _prices(session.region)


def _tried(topic: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (LambdamrError, BotoCoreError, ClientError) as error:
        return _failed(topic, error)


def _failed(topic: str, error: LambdamrError | BotoCoreError | ClientError) -> Finding:
    if isinstance(error, LambdamrError):
        return Finding(topic, "bad", str(error), "see the message; docs/errors.md has more")
    found, _, remedy = explain(error).partition(": ")
    return Finding(topic, "bad", found, remedy)


def _who(session: Session) -> Finding:
    identity = session.sts.get_caller_identity()
    return Finding("credentials", "good", f"{identity['Arn']} in {session.region}")


def _stack(session: Session, name: str, found: Stack | None) -> Finding:
    if found is None:
        return Finding(
            "stack",
            "bad",
            f"there is no stack {name} in {session.region}",
            "run `lambdamr deploy`, or say the right --stack, --region or --profile",
        )
    if found.is_busy:
        return Finding("stack", "bad", f"{name} is {found.status}", "wait until that is done")
    if not found.functions:
        return Finding("stack", "bad", f"{name} has no functions", "run `lambdamr deploy`")
    if found.status.endswith("FAILED") or found.status == "ROLLBACK_COMPLETE":
        remedy = "run `lambdamr destroy`, then `lambdamr deploy`"
        return Finding("stack", "bad", f"{name} is {found.status}", remedy)
    return Finding("stack", "good", f"{name} is {found.status}")


def _versions(found: Stack) -> Finding:
    version, python = found.outputs["LambdamrVersion"], found.outputs["PythonVersion"]
    there = f"lambdamr {version}, Python {python}, {found.outputs['Architecture']}"
    if python != HERE:
        return Finding(
            "versions",
            "bad",
            f"the functions have Python {python}, and this is Python {HERE}",
            f"run `lambdamr deploy` with this Python, or start jobs with Python {python}",
        )
    if version != lambdamr.__version__:
        return Finding(
            "versions",
            "bad",
            f"the functions have lambdamr {version}, and this is {lambdamr.__version__}",
            f"run `lambdamr deploy`, or pip install lambdamr=={version}",
        )
    return Finding("versions", "good", there)


def _bucket(session: Session, found: Stack) -> Finding:
    name = found.outputs["BucketName"]
    key = f"{JOBS}doctor-{secrets.token_hex(8)}/probe"
    session.s3.put_object(Bucket=name, Key=key, Body=b"lambdamr")
    try:
        session.s3.get_object(Bucket=name, Key=key)["Body"].read()
    finally:
        session.s3.delete_object(Bucket=name, Key=key)
    return Finding("bucket", "good", f"{name}: written, read and deleted an object")


def _queue(session: Session, found: Stack) -> Finding:
    url = found.outputs["QueueUrl"]
    answer = session.sqs.get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    waiting = answer["Attributes"]["ApproximateNumberOfMessages"]
    return Finding("queue", "good", f"{url.rpartition('/')[2]}: {waiting} messages wait")


def _concurrency(session: Session) -> Finding:
    limits = session.functions.get_account_settings()["AccountLimit"]
    free = limits.get("UnreservedConcurrentExecutions", 0)
    found = f"{free} invocations at once in this account"
    if free < _FEW:
        remedy = "ask for more: Service Quotas, AWS Lambda, concurrent executions"
        return Finding("concurrency", "odd", found, remedy)
    return Finding("concurrency", "good", found)


def _function(session: Session, name: str) -> Finding:
    found = session.functions.get_function_configuration(FunctionName=name)
    state, last = found.get("State", ""), found.get("LastUpdateStatus", "Successful")
    if state in {"Active", "Inactive"} and last == "Successful":  # an inactive one wakes by itself
        return Finding(name, "good", f"{found['MemorySize']} MB, {state.lower()}")
    why = found.get("StateReason") or found.get("LastUpdateStatusReason") or ""
    return Finding(
        name,
        "bad",
        f"{state}, {last} {why}".strip(),
        "wait a minute if it is pending; else run `lambdamr deploy` again",
    )


def _round_trip(session: Session, found: Stack, function: str) -> Finding:
    executor = LambdaExecutor(
        functions=[function],
        bucket=found.outputs["BucketName"],
        queue_url=found.outputs["QueueUrl"],
        region=session.region,
        profile=session.profile,
        endpoint_url=session.endpoint_url,
    )
    seconds = []
    for _ in range(_TRIPS):
        started = time.perf_counter()
        lambdamr.map_reduce(
            _one,
            _add,
            [0],
            executor=executor,
            retry=lambdamr.RetryPolicy(attempts=1, patience=_PATIENCE),
            timeout=_PATIENCE,
            progress=False,
        )
        seconds.append(time.perf_counter() - started)
    first, then = seconds[0], statistics.median(seconds[1:])
    return Finding(
        "round trip",
        "good",
        f"a job of one partition: {1e3 * first:.0f} ms at first, then {1e3 * then:.0f} ms",
    )


def _one(_: list[int]) -> int:
    return 1


def _add(a: int, b: int) -> int:
    return a + b


def _prices(region: str) -> Finding:
    if region in aws_prices.BY_REGION:
        return Finding("prices", "good", f"list prices of {aws_prices.AS_OF} for {region}")
    return Finding(
        "prices",
        "odd",
        f"none are known for {region}: costs are told as if it were the dearest region",
        "pass LambdaExecutor(prices=lambdamr.executors.aws_prices.Prices(...))",
    )


def _leftovers(session: Session, found: Stack) -> Finding:
    now = datetime.now(UTC)
    jobs = bucket.leftovers(session, found.outputs["BucketName"])
    old = [job for job in jobs if now - job.newest > _OLD]
    if old:
        size = sum(job.size for job in old)
        return Finding(
            "left behind",
            "odd",
            f"{len(old)} jobs left {size / 1e6:.1f} MB more than a day ago",
            "look with `lambdamr jobs`, remove with `lambdamr clean`",
        )
    return Finding("left behind", "good", f"nothing old; {len(jobs)} jobs of today")
