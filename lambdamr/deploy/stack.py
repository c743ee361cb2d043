"""The CloudFormation stack: what is there, changing it, and why a change failed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lambdamr.deploy.session import Session, code_of
from lambdamr.errors import DeployError

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import ParameterTypeDef, StackTypeDef

_OURS = "lambdamr:"  # how the template's description begins
_EMPTY = {"ROLLBACK_COMPLETE", "CREATE_FAILED", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS"}
_POLL = (0.2, 3.0)  # seconds between two looks, at first and in the end
_PATIENCE = 3600.0  # seconds that a change may take

# What CloudFormation says of a resource that failed, and what to do about it.
_REMEDIES = (
    (
        "not authorized to perform",
        "whoever deploys needs this permission: docs/deploy.md has all of them",
    ),
    (
        "less than or equal to 3008",
        "this account may not have more than 3008 MB yet: deploy with --memory 1769 3008, or ask "
        "for more under Service Quotas, AWS Lambda",
    ),
    (
        "TagPolicy",
        "the organisation's tag policy refuses it: deploy from an account that may",
    ),
    (
        "already exists",
        "something of this name is left from elsewhere: remove it, or take another --stack",
    ),
    (
        "Source image",
        "the image is not there, or Lambda may not read it: push it to ECR in this account and "
        "region, for the stack's --architecture",
    ),
    ("limit", "a quota of the account is used up: Service Quotas shows which, and raises it"),
)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to one resource of a stack.

    Attributes:
        resource: its logical name in the template, or the name of the stack.
        kind: as ``AWS::S3::Bucket``.
        status: as ``CREATE_COMPLETE``.
        reason: of a failure, in CloudFormation's words.
    """

    resource: str
    kind: str
    status: str
    reason: str


Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack of ours that exists.

    Attributes:
        name, id: of the stack; a deleted one can be asked for by its id only.
        status: as ``UPDATE_COMPLETE``.
        parameters, outputs: by name.
    """

    name: str
    id: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def is_busy(self) -> bool:
        """Somebody changes it just now."""
        return self.status.endswith("_IN_PROGRESS") and self.status not in _EMPTY

    @property
    def is_empty(self) -> bool:
        """It was never made: nothing can be done with it but to delete it."""
        return self.status in _EMPTY

    @property
    def functions(self) -> list[str]:
        """The names of the functions, the smallest memory first."""
        return [name for name in self.outputs.get("FunctionNames", "").split(",") if name]


@dataclass(frozen=True, slots=True)
class Resource:
    """What a stack holds: its logical name, as ``Bucket``; its kind; its name in AWS, if it has."""

    name: str
    kind: str
    id: str


def template() -> str:
    """The template, as it is in the package."""
    return files("lambdamr.deploy").joinpath("template.yaml").read_text("utf-8")


def find(session: Session, name: str) -> Stack | None:
    """The stack of this name or id, or None.

    Raises:
        DeployError: there is a stack of this name, which is not ours.
    """
    described = _describe(session, name)
    if described is None:
        return None
    status = described["StackStatus"]
    if not described.get("Description", "").startswith(_OURS):
        raise DeployError(
            f"the stack {name} in {session.region} was not made by lambdamr, and is left alone: "
            "take another name with --stack"
        )
    return Stack(
        described["StackName"],
        described.get("StackId", name),
        status,
        {p["ParameterKey"]: p.get("ParameterValue", "") for p in described.get("Parameters", ())},
        {o["OutputKey"]: o["OutputValue"] for o in described.get("Outputs", ())},
    )


def resources(session: Session, stack: Stack) -> list[Resource]:
    """All that the stack holds."""
    pages = session.cloudformation.get_paginator("list_stack_resources").paginate(
        StackName=stack.name
    )
    return [
        Resource(
            each["LogicalResourceId"], each["ResourceType"], each.get("PhysicalResourceId", "")
        )
        for page in pages
        for each in page["StackResourceSummaries"]
        if each["ResourceStatus"] != "DELETE_COMPLETE"
    ]


def validate(session: Session) -> None:
    """Ask AWS whether it takes the template: it does if we are let in at all."""
    session.cloudformation.validate_template(TemplateBody=template())


def create(session: Session, name: str, parameters: Mapping[str, str], heard: Listener) -> Stack:
    """Make it, and wait.

    Raises:
        DeployError: a resource could not be made; says which, why, and how to mend it.
    """
    token = _token()
    answer = session.cloudformation.create_stack(
        StackName=name,
        TemplateBody=template(),
        Parameters=_listed(parameters),
        Capabilities=["CAPABILITY_IAM"],
        ClientRequestToken=token,
    )
    return _wait(session, name, answer["StackId"], token, heard)


def update(
    session: Session, stack: Stack, parameters: Mapping[str, str], heard: Listener
) -> Stack | None:
    """Change it, and wait; None if CloudFormation finds nothing to change.

    Raises:
        DeployError: a resource could not be changed; all is again as it was.
    """
    token = _token()
    try:
        session.cloudformation.update_stack(
            StackName=stack.name,
            TemplateBody=template(),
            Parameters=_listed(parameters),
            Capabilities=["CAPABILITY_IAM"],
            ClientRequestToken=token,
        )
    except ClientError as error:
        if "No updates are to be performed" in str(error):
            return None
        raise
    return _wait(session, stack.name, stack.id, token, heard)


def delete(session: Session, stack: Stack, heard: Listener) -> None:
    """Remove it, and wait.

    Raises:
        DeployError: a resource could not be removed; says which, why, and how to mend it.
    """
    token = _token()
    session.cloudformation.delete_stack(StackName=stack.name, ClientRequestToken=token)
    _wait(session, stack.name, stack.id, token, heard)


def changes(session: Session, stack: Stack, parameters: Mapping[str, str]) -> list[str]:
    """What `update` would change, a line each; empty if the stack is as it should be."""
    found = [
        f"{name}: {stack.parameters.get(name) or 'none'} -> {value or 'none'}"
        for name, value in sorted(parameters.items())
        if stack.parameters.get(name, "") != value
    ]
    body = session.cloudformation.get_template(StackName=stack.name)["TemplateBody"]
    if str(body).strip() != template().strip():
        found.append("the template: another version of lambdamr has another")
    return found


def _describe(session: Session, name: str) -> StackTypeDef | None:
    try:
        [described] = session.cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if code_of(error) == "ValidationError" and "does not exist" in str(error):
            return None
        raise
    return None if described["StackStatus"] == "DELETE_COMPLETE" else described


def _wait(session: Session, name: str, stack_id: str, token: str, heard: Listener) -> Stack:
    told: set[str] = set()
    failures: list[Event] = []
    for _ in _patiently():
        described = _describe(session, stack_id)
        for event_id, event in _events(session, stack_id, token):
            if event_id not in told:
                told.add(event_id)
                heard(event)
                if event.status.endswith("_FAILED") and event.resource != name:
                    failures.append(event)
        status = "DELETE_COMPLETE" if described is None else described["StackStatus"]
        # Before its first event, the status may be that from before.
        if described is None or (told and not status.endswith("_IN_PROGRESS")):
            break
    else:
        raise DeployError(f"the stack {name} was not done within an hour: look at the console")
    if status in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"}:
        return find(session, stack_id) or Stack(name, stack_id, status, {}, {})
    raise DeployError(_why(name, status, failures))


def _why(name: str, status: str, failures: list[Event]) -> str:
    # The first that fail take the others with them, and those say only that.
    real = [event for event in failures if "cancelled" not in event.reason.lower()]
    lines = [f"the stack {name} is {status}"]
    for event in real:
        lines.append(f"{event.resource} ({event.kind}): {event.reason}")
        said = event.reason.lower()
        lines += [f"  -> {what}" for sign, what in _REMEDIES if sign.lower() in said][:1]
    if status == "DELETE_FAILED":
        lines.append("run `lambdamr destroy` again")
    elif status.startswith("UPDATE_ROLLBACK_COMPLETE"):
        lines.append("everything is as it was before")
    elif status == "UPDATE_ROLLBACK_FAILED":
        lines.append("run `aws cloudformation continue-update-rollback`, or `lambdamr destroy`")
    else:
        lines.append("when it is mended, run `lambdamr deploy` again: it begins anew")
    return "\n".join(lines)


def _events(session: Session, stack_id: str, token: str) -> list[tuple[str, Event]]:
    try:
        pages = session.cloudformation.get_paginator("describe_stack_events").paginate(
            StackName=stack_id
        )
        found = []
        for page in pages:
            ours = [e for e in page["StackEvents"] if e.get("ClientRequestToken", token) == token]
            found += ours
            if len(ours) < len(page["StackEvents"]):
                break  # newest first: the rest is older
    except ClientError as error:
        if "does not exist" in str(error):
            return []
        raise
    return [
        (
            event["EventId"],
            Event(
                event.get("LogicalResourceId", ""),
                event.get("ResourceType", ""),
                event.get("ResourceStatus", ""),
                event.get("ResourceStatusReason", ""),
            ),
        )
        for event in reversed(found)
    ]


def _patiently() -> Iterator[None]:
    delay, limit = _POLL
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        yield
        time.sleep(delay)
        delay = min(1.5 * delay, limit)


def _listed(parameters: Mapping[str, str]) -> list[ParameterTypeDef]:
    return [
        {"ParameterKey": key, "ParameterValue": value} for key, value in sorted(parameters.items())
    ]


def _token() -> str:
    return f"lambdamr-{secrets.token_hex(8)}"
