"""Deploying and destroying, from the first question to the last."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from lambdamr.deploy import bucket, image as images, package as packages, stack as stacks
from lambdamr.deploy.engines import Engine
from lambdamr.deploy.session import Session, code_of
from lambdamr.deploy.settings import Settings, check_stack_name
from lambdamr.deploy.stack import Stack
from lambdamr.errors import DeployError, InputError

_ATTEMPTS = 3  # to remove a bucket that somebody writes to


class Watcher:
    """Hears how a deployment goes; this one does not listen."""

    def step(self, text: str) -> None:
        """Something begins, or is worth a line."""

    def event(self, event: stacks.Event) -> None:
        """Something happened to a resource."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What `deploy` did.

    Attributes:
        stack: as it is now.
        settings: what it has.
        changed: something was made or changed.
    """

    stack: Stack
    settings: Settings
    changed: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What `deploy` would do.

    Attributes:
        stack: that exists now, if any.
        settings: what it would have.
        package: how large the zip is; None if there is an image.
        changes: to the stack that exists, a line each.
    """

    stack: Stack | None
    settings: Settings
    package: packages.Package | None
    changes: list[str]


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What `destroy` removed: objects in the bucket, and resources of the stack."""

    objects: int
    resources: list[str]


def deploy(
    session: Session,
    name: str,
    options: dict[str, Any],
    *,
    requirements: Path | None = None,
    watcher: Watcher | None = None,
) -> Deployed:
    """Make the stack, or change it to what the options say.

    Args:
        name: of the stack.
        options: of `Settings`; what is not among them stays as it is in the stack.
        requirements: a file as pip reads it; without it, the zip holds what it did.

    Raises:
        InputError: an option, or a requirement, cannot be; nothing was sent.
        DeployError: AWS refused; says what and why.
    """
    watcher = watcher or Watcher()
    with tempfile.TemporaryDirectory(prefix="lambdamr-") as folder:
        found, settings, package = _prepared(
            session, name, options, requirements, Path(folder), watcher
        )
        if found is not None and found.is_empty:
            watcher.step(f"removing what an earlier attempt left ({found.status})")
            stacks.delete(session, found, watcher.event)
            found = None
        fresh = found is None
        if found is None:
            watcher.step(f"making the stack {name} in {session.region}")
            # The bucket comes first: without the zip in it, functions cannot be made.
            first = settings if package is None else replace(settings, code_key="")
            found = stacks.create(session, name, first.parameters(), watcher.event)
        if package is not None and bucket.upload(session, found.outputs["BucketName"], package):
            watcher.step(f"uploaded {package.size / 1e6:.1f} MB")
        if package is None and fresh:
            return Deployed(found, settings, changed=True)
        if not fresh and not stacks.changes(session, found, settings.parameters()):
            return Deployed(found, settings, changed=False)
        watcher.step("making the functions" if fresh else f"changing the stack {name}")
        changed = stacks.update(session, found, settings.parameters(), watcher.event)
    if package is not None:
        bucket.prune(session, found.outputs["BucketName"], package.key)
    return Deployed(changed or found, settings, changed=fresh or changed is not None)


def push(
    session: Session,
    name: str,
    options: dict[str, Any],
    recipe: images.Recipe,
    engine: Engine,
    *,
    watcher: Watcher | None = None,
) -> str:
    """Build an image, and push it to the stack's repository, which is made if it is not there.

    Args:
        name: of the stack; it is made, without functions, if there is none.
        options: of `Settings`, for a stack that is made.
        recipe: what the image is to be.

    Returns:
        Its URI, for ``image_uri``.

    Raises:
        InputError: the image cannot be built.
        DeployError: AWS, or the registry, refused; says what and why.
    """
    watcher = watcher or Watcher()
    check_stack_name(name)
    Settings(**options)
    watcher.step(f"building the image: {recipe}")
    image = images.build(recipe, engine)
    found = stacks.find(session, name)
    settings = replace(_merged(found, {} if found else options), repository=True)
    if found is not None and found.is_empty:
        stacks.delete(session, found, watcher.event)
        found = None
    if found is None:
        watcher.step(f"making the stack {name} in {session.region}")
        empty = replace(settings, code_key="", image_uri="")
        found = stacks.create(session, name, empty.parameters(), watcher.event)
    elif "RepositoryUri" not in found.outputs:
        watcher.step("making the repository")
        found = stacks.update(session, found, settings.parameters(), watcher.event) or found
    repository = found.outputs["RepositoryUri"]
    uri = f"{repository}:{image.tag}"
    if not _is_there(session, repository.partition("/")[2], image.tag):
        watcher.step(f"pushing {image.reference}")
        answer = session.ecr.get_authorization_token()["authorizationData"][0]
        token = base64.b64decode(answer["authorizationToken"]).decode()
        engine.push(image.reference, uri, token.partition(":")[2])
    return uri


def _is_there(session: Session, repository: str, tag: str) -> bool:
    try:
        found = session.ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except ClientError as error:
        if code_of(error) == "ImageNotFoundException":
            return False
        raise
    return bool(found["imageDetails"])  # emulators answer with none


def plan(
    session: Session,
    name: str,
    options: dict[str, Any],
    *,
    requirements: Path | None = None,
    watcher: Watcher | None = None,
) -> Plan:
    """What `deploy` would do with the same arguments. Nothing is changed.

    Raises:
        InputError, DeployError: as `deploy`.
    """
    with tempfile.TemporaryDirectory(prefix="lambdamr-") as folder:
        found, settings, package = _prepared(
            session, name, options, requirements, Path(folder), watcher or Watcher()
        )
    if found is None or found.is_empty:
        stacks.validate(session)
        changes = []
    else:
        changes = stacks.changes(session, found, settings.parameters())
    return Plan(found, settings, package, changes)


def destroy(session: Session, name: str, *, watcher: Watcher | None = None) -> Destroyed | None:
    """Remove the stack and all that is in it; None if there is none.

    Raises:
        DeployError: something could not be removed; says what and why.
    """
    watcher = watcher or Watcher()
    found = stacks.find(session, check_stack_name(name))
    if found is None:
        return None
    if found.is_busy:
        raise _busy(found)
    resources = stacks.resources(session, found)
    buckets = [each.id for each in resources if each.kind == "AWS::S3::Bucket" and each.id]
    objects = 0
    for attempt in range(_ATTEMPTS):
        watcher.step("emptying the bucket")
        objects += sum(bucket.empty(session, each) for each in buckets)
        watcher.step(f"removing the stack {name}")
        try:
            stacks.delete(session, found, watcher.event)
            break
        except DeployError as error:
            # A job that still runs wrote to the bucket after it was emptied.
            if attempt + 1 == _ATTEMPTS or "not empty" not in str(error):
                raise
    return Destroyed(objects, [f"{each.kind} {each.id}" for each in resources])


def _prepared(
    session: Session,
    name: str,
    options: dict[str, Any],
    requirements: Path | None,
    folder: Path,
    watcher: Watcher,
) -> tuple[Stack | None, Settings, packages.Package | None]:
    check_stack_name(name)
    Settings(**options)  # whatever is wrong with them, before anything is sent
    if requirements is not None and not requirements.is_file():
        raise InputError(f"--requirements: there is no file {requirements}")
    found = stacks.find(session, name)
    settings = _merged(found, options)
    if settings.image_uri:
        if requirements is not None:
            raise InputError(
                "--requirements are for a zip, and the functions run an image: put them into it, "
                "or go back to a zip with --image-uri ''"
            )
        return found, replace(settings, code_key="", requirements=()), None
    watcher.step(f"building the zip for Python {settings.python} on {settings.architecture}")
    package = packages.build(
        folder / "lambdamr.zip",
        python=settings.python,
        architecture=settings.architecture,
        requirements=requirements or settings.requirements,
    )
    settings = replace(settings, code_key=package.key, requirements=package.requirements)
    return found, settings, package


def _merged(found: Stack | None, options: dict[str, Any]) -> Settings:
    if found is None or found.is_empty:
        return Settings(**options)
    if found.is_busy:
        raise _busy(found)
    if found.status in {"DELETE_FAILED", "UPDATE_ROLLBACK_FAILED"}:
        raise DeployError(
            f"the stack {found.name} is {found.status}: run `lambdamr destroy`, then this again"
        )
    if foreign := found.parameters.get("CodeBucket"):
        raise DeployError(
            f"the stack {found.name} takes its zip from the bucket {foreign}: it is kept by "
            "something else, as Terraform, and is to be changed there"
        )
    before = Settings.from_parameters(found.parameters)
    settings = replace(before, **options)
    if settings.image_uri and "image_uri" not in options:  # what is in it did not change
        settings = replace(
            settings,
            python=found.parameters["PythonVersion"],
            version=found.parameters["LambdamrVersion"],
        )
    return settings


def _busy(found: Stack) -> DeployError:
    return DeployError(
        f"the stack {found.name} is just being changed ({found.status}): wait until that is done"
    )
