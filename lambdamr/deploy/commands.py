"""The commands that deploy, look after and destroy a stack."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from lambdamr.deploy import bucket, deployment, engines, image as images, package as packages, stack
from lambdamr.deploy.session import Session, in_our_words
from lambdamr.deploy.settings import HERE, Settings
from lambdamr.errors import InputError, LambdamrError
from lambdamr.executors.aws_session import STACK

app = typer.Typer(
    name="lambdamr",
    help="Deploys lambdamr's stack on AWS, looks after it, and takes it down.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

StackName = Annotated[str, typer.Option("--stack", help="Name of the CloudFormation stack.")]
Region = Annotated[str | None, typer.Option(help="AWS region; default: the environment's.")]
Profile = Annotated[str | None, typer.Option(help="Profile of ~/.aws/config.")]
Endpoint = Annotated[str | None, typer.Option(help="URL of an emulator of AWS.")]
Requirements = Annotated[
    Path | None, typer.Option(help="What mappers import, as a file that pip reads.")
]
Python = Annotated[str | None, typer.Option(help=f"Python of the functions; default: {HERE}.")]
Architecture = Annotated[str | None, typer.Option(help="x86_64 or arm64.")]
Root = Annotated[
    str | None,
    typer.Option(metavar="VERSION", help="ROOT's version on PyPI; '' is none; default: as here."),
]
Header = Annotated[
    list[Path] | None, typer.Option(help="File or folder that ROOT's C++ includes; repeatable.")
]
Base = Annotated[
    str | None, typer.Option(help="Image of Debian or Ubuntu to begin with; default: Python's own.")
]
EngineName = Annotated[
    str | None, typer.Option("--engine", help="docker, podman or buildah; default: what works.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def deploy(
    rungs: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    name: StackName = STACK,
    memory: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MB...",
            help="Memory of each function; a task that runs out of one gets the next. "
            "Default: 1769, which is one vCPU.",
        ),
    ] = None,
    requirements: Requirements = None,
    image: Annotated[
        bool, typer.Option("--image", help="Build an image with ROOT, push it, and deploy it.")
    ] = False,
    root: Root = None,
    header: Header = None,
    base: Base = None,
    engine: EngineName = None,
    image_uri: Annotated[
        str | None, typer.Option(help="Image in ECR in place of a zip; '' is a zip again.")
    ] = None,
    python: Python = None,
    architecture: Architecture = None,
    storage: Annotated[int | None, typer.Option(help="MB of /tmp; 512 is free.")] = None,
    timeout: Annotated[int | None, typer.Option(help="Seconds a task may take.")] = None,
    secret: Annotated[
        list[str] | None, typer.Option(help="ARN of a secret that mappers may read; repeatable.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="ARN of a policy that mappers need; repeatable.")
    ] = None,
    log_days: Annotated[int | None, typer.Option(help="Days that logs are kept.")] = None,
    job_days: Annotated[
        int | None, typer.Option(help="Days until what crashed jobs left is deleted.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Make the stack, or change it; what is not said stays as it is."""
    with _errors():
        given = {
            "memory": _numbers([*(memory or ()), *(rungs or ())], bool(memory)),
            "python": python,
            "architecture": architecture,
            "storage": storage,
            "timeout": timeout,
            "log_days": log_days,
            "job_days": job_days,
            "secrets": None if secret is None else tuple(filter(None, secret)),
            "policies": None if policy is None else tuple(filter(None, policy)),
            "image_uri": image_uri,
        }
        options = {key: value for key, value in given.items() if value is not None}
        session = _session(region, profile, endpoint_url)
        if image:
            if dry_run or image_uri is not None:
                raise InputError("--image goes neither with --dry-run nor with --image-uri")
            recipe = _recipe(root, requirements, header, base, python, architecture)
            requirements = None  # they are in the image
            with _watching() as watcher:
                options["image_uri"] = deployment.push(
                    session, name, options, recipe, engines.find(engine), watcher=watcher
                )
            options["repository"] = True
        elif root or header or base or engine:
            raise InputError("--root, --header, --base and --engine are for --image")
        if dry_run:
            with _watching() as watcher:
                plan = deployment.plan(
                    session, name, options, requirements=requirements, watcher=watcher
                )
            _show_plan(name, session, plan)
            return
        with _watching() as watcher:
            done = deployment.deploy(
                session, name, options, requirements=requirements, watcher=watcher
            )
        _show_deployed(name, session, done, explicit=bool(region or profile or endpoint_url))


@app.command()
def destroy(
    name: StackName = STACK,
    yes: Yes = False,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Remove the stack and everything in it."""
    with _errors():
        session = _session(region, profile, endpoint_url)
        found = stack.find(session, name)
        if found is None:
            _out.print(f"there is no stack {name} in {session.region}: nothing to remove")
            return
        _confirm(f"Remove the stack {name} in {session.region}, and all that jobs have in it?", yes)
        with _watching() as watcher:
            removed = deployment.destroy(session, name, watcher=watcher)
        if removed is not None:
            for resource in removed.resources:
                _out.print(f"  removed {resource}", markup=False)
            _out.print(f"The stack {name} is gone, and {removed.objects} objects with it.")


@app.command()
def doctor(
    name: StackName = STACK,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Look for what is wrong, and say what to do about it; exits with 1 if jobs cannot run."""
    from lambdamr.deploy.doctor import examine  # brings the executor, which the others do without

    marks = {
        "good": Text("ok  ", "green"),
        "odd": Text("odd ", "yellow"),
        "bad": Text("BAD ", "bold red"),
    }
    bad = False
    with _errors():
        for finding in examine(_session(region, profile, endpoint_url), name):
            bad = bad or finding.verdict == "bad"
            _out.print(marks[finding.verdict] + Text(f"{finding.topic}: {finding.found}", ""))
            if finding.remedy:
                _out.print(f"    -> {finding.remedy}", markup=False)
    if bad:
        raise typer.Exit(1)


@app.command()
def warm(
    number: Annotated[int, typer.Argument(help="Environments of the first function.")],
    name: StackName = STACK,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Start environments before a job does; Lambda keeps idle ones for some minutes."""
    import asyncio

    from lambdamr.executors.aws_lambda import LambdaExecutor

    with _errors():
        executor = LambdaExecutor(
            name, region=region, profile=profile, endpoint_url=endpoint_url, warm=number
        )
        woken = asyncio.run(executor.wake())
        _out.print(
            f"{woken.environments} of {number} environments are awake, {woken.cold} of them were "
            f"not before: {woken.cost:.4f} USD"
        )
        if woken.error is not None:
            _err.print(f"not all were woken: {woken.error}", markup=False)
            raise typer.Exit(1)


@app.command()
def jobs(
    name: StackName = STACK,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: Endpoint = None,
) -> None:
    """List what jobs have in the bucket: those that run, and what crashed ones left."""
    with _errors():
        session = _session(region, profile, endpoint_url)
        found = bucket.leftovers(session, _bucket_of(session, name))
        if not found:
            _out.print("no job has anything in the bucket")
            return
        table = Table("job", "objects", "size", "last written", box=None, pad_edge=False)
        now = datetime.now(UTC)
        for job in found:
            table.add_row(
                job.job, str(job.objects), _bytes(job.size), f"{_age(now - job.newest)} ago"
            )
        _out.print(table)
        total = sum(job.size for job in found)
        _out.print(
            f"{len(found)} jobs, {_bytes(total)}. Whatever is older than a day goes "
            "with `lambdamr clean`"
        )


@app.command()
def clean(
    job: Annotated[list[str] | None, typer.Argument(help="Jobs to remove, by id.")] = None,
    older_than: Annotated[
        str, typer.Option(help="Of the others those that wrote nothing for this long: 90m, 6h, 2d.")
    ] = "1d",
    everything: Annotated[
        bool, typer.Option("--everything", help="Empty the bucket, as before a terraform destroy.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Yes = False,
    name: StackName = STACK,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Remove what crashed jobs left in the bucket."""
    with _errors():
        age = _duration(older_than)
        session = _session(region, profile, endpoint_url)
        place = _bucket_of(session, name)
        if everything and not dry_run:
            _confirm(f"Remove everything in the bucket of {name}? Jobs that run will fail.", yes)
            _out.print(f"removed {bucket.empty(session, place)} objects")
            return
        found = bucket.leftovers(session, place)
        if unknown := set(job or ()) - {each.job for each in found}:
            raise InputError(f"no job {', '.join(sorted(unknown))} is there; see `lambdamr jobs`")
        now = datetime.now(UTC)
        chosen = [
            each
            for each in found
            if (each.job in job if job else everything or now - each.newest >= age)
        ]
        for each in chosen:
            if not dry_run:
                bucket.clean(session, place, each.job)
            _out.print(
                f"{'would remove' if dry_run else 'removed'} {each.job}: {each.objects} objects, "
                f"{_bytes(each.size)}"
            )
        if not chosen:
            _out.print(f"nothing is older than {older_than}")


@app.command()
def package(
    output: Annotated[Path, typer.Option(help="Where to write it.")] = Path("lambdamr.zip"),
    requirements: Requirements = None,
    python: Python = None,
    architecture: Architecture = None,
) -> None:
    """Write the zip of the functions, for those who deploy with Terraform."""
    with _errors():
        settings = Settings(python=python or HERE, architecture=architecture or "x86_64")
        try:
            made = packages.build(
                output,
                python=settings.python,
                architecture=settings.architecture,
                requirements=requirements or (),
            )
        except OSError as error:
            raise InputError(f"--output {output} cannot be written: {error}") from error
        _out.print(f"{output}: {_bytes(made.size)}, {_bytes(made.unpacked)} unpacked")


image_app = typer.Typer(help="The container image of the functions.", no_args_is_help=True)
app.add_typer(image_app, name="image")


@image_app.command("build")
def image_build(
    root: Root = None,
    requirements: Requirements = None,
    header: Header = None,
    base: Base = None,
    python: Python = None,
    architecture: Architecture = None,
    engine: EngineName = None,
) -> None:
    """Build the image, and print its name; it is tagged by what is in it."""
    with _errors():
        recipe = _recipe(root, requirements, header, base, python, architecture)
        with _watching() as watcher:
            watcher.step(f"building the image: {recipe}")
            built = images.build(recipe, engines.find(engine))
        if not built.built:
            _err.print("- it is here already", markup=False)
        elif built.size is not None:
            _err.print(f"- {_bytes(built.size)} unpacked", markup=False)
        _out.print(built.reference, markup=False)


@image_app.command("push")
def image_push(
    name: StackName = STACK,
    root: Root = None,
    requirements: Requirements = None,
    header: Header = None,
    base: Base = None,
    python: Python = None,
    architecture: Architecture = None,
    engine: EngineName = None,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Build the image, push it to the stack's repository, and print its URI."""
    with _errors():
        recipe = _recipe(root, requirements, header, base, python, architecture)
        session = _session(region, profile, endpoint_url)
        options = {"python": recipe.python, "architecture": recipe.architecture}
        with _watching() as watcher:
            uri = deployment.push(
                session, name, options, recipe, engines.find(engine), watcher=watcher
            )
        _out.print(uri, markup=False)


@app.command()
def template() -> None:
    """Print the CloudFormation template."""
    sys.stdout.write(stack.template())


class _Console(deployment.Watcher):
    def __init__(self, status: Status) -> None:
        self._status = status

    def step(self, text: str) -> None:
        _err.print(f"- {text}", markup=False)
        self._status.update(Text(text))

    def event(self, event: stack.Event) -> None:
        words = event.status.lower().replace("_", " ")
        self._status.update(Text(f"{event.resource}: {words}"))
        if event.status.endswith("_FAILED"):
            _err.print(f"  {event.resource}: {words}: {event.reason}", markup=False)


@contextmanager
def _watching() -> Iterator[_Console]:
    with _err.status("") as status:
        yield _Console(status)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        with in_our_words():
            yield
    except InputError as error:
        _fail(error, 2)
    except LambdamrError as error:
        _fail(error, 1)


def _fail(error: LambdamrError, code: int) -> NoReturn:
    _err.print(Text("error: ", "bold red") + Text(str(error), ""))
    raise typer.Exit(code)


def _session(region: str | None, profile: str | None, endpoint_url: str | None) -> Session:
    return Session(region=region, profile=profile, endpoint_url=endpoint_url)


def _bucket_of(session: Session, name: str) -> str:
    found = stack.find(session, name)
    if found is None or "BucketName" not in found.outputs:
        raise InputError(
            f"there is no stack {name} in {session.region}: run `lambdamr deploy`, "
            "or say the right --stack or --region"
        )
    return found.outputs["BucketName"]


def _recipe(
    root: str | None,
    requirements: Path | None,
    headers: list[Path] | None,
    base: str | None,
    python: str | None,
    architecture: str | None,
) -> images.Recipe:
    settings = Settings(python=python or HERE, architecture=architecture or "x86_64")
    if requirements is not None and not requirements.is_file():
        raise InputError(f"--requirements: there is no file {requirements}")
    return images.Recipe(
        python=settings.python,
        architecture=settings.architecture,
        root=images.root_here() if root is None else root,
        base=base or "",
        requirements=requirements,
        headers=tuple(headers or ()),
    )


def _numbers(words: list[str], said: bool) -> tuple[int, ...] | None:
    if words and not said:
        raise InputError(f"what is {words[0]!r}? See `lambdamr deploy --help`")
    try:
        return tuple(int(word) for text in words for word in text.split(",")) if said else None
    except ValueError:
        raise InputError(f"--memory takes numbers of MB, not {' '.join(words)!r}") from None


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("nobody is here to be asked: pass --yes")
    typer.confirm(question, abort=True)


def _show_plan(name: str, session: Session, plan: deployment.Plan) -> None:
    if plan.package is not None:
        _out.print(
            f"the zip: {_bytes(plan.package.size)}, {_bytes(plan.package.unpacked)} unpacked"
        )
    if plan.stack is None or plan.stack.is_empty:
        rungs = ", ".join(f"{memory} MB" for memory in plan.settings.memory)
        _out.print(
            f"would make the stack {name} in {session.region}: a bucket, a queue, a role, a log "
            f"group, and functions of {rungs}"
        )
    elif not plan.changes:
        _out.print(f"nothing would change in the stack {name}")
    for change in plan.changes:
        _out.print(f"would change {change}", markup=False)
    _out.print("nothing was done (--dry-run)")


def _show_deployed(
    name: str, session: Session, done: deployment.Deployed, *, explicit: bool
) -> None:
    if done.changed:
        rungs = ", ".join(f"{memory} MB" for memory in done.settings.memory)
        _out.print(f"The stack {name} in {session.region} is ready: functions of {rungs}.")
    else:
        _out.print(f"The stack {name} in {session.region} is as it should be: nothing changed.")
    if done.settings.python != HERE:
        _out.print(f"Start jobs with Python {done.settings.python}; this is {HERE}.")
    executor = '"lambda"'
    if name != STACK or explicit:
        said = [repr(name)] if name != STACK else []
        said += [
            f"{key}={value!r}"
            for key, value in (
                ("region", session.region),
                ("profile", session.profile),
                ("endpoint_url", session.endpoint_url),
            )
            if value is not None
        ]
        executor = f"lambdamr.LambdaExecutor({', '.join(said)})".replace("'", '"')
    _out.print("\nIn Python:\n", markup=False)
    _out.print("    import lambdamr", markup=False)
    _out.print(f"    lambdamr.map_reduce(mapper, reducer, data, executor={executor})", markup=False)


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise InputError(f"--older-than takes a number and a unit, as 90m, 6h or 2d, not {text!r}")
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    try:
        return timedelta(seconds=int(match[1]) * seconds)
    except OverflowError:
        raise InputError(f"--older-than {text} is longer than AWS exists") from None


def _age(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
