"""What is deployed: the options of a stack, checked before anything is sent."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from lambdamr import __version__
from lambdamr.errors import InputError

RUNGS = 4
"""Functions of a memory ladder at most: as many as the template has."""

# Of Lambda's own functions (its quotas, 2026-11). The API takes more, for Managed Instances only:
# 32,768 MB, 5,400 s (botocore 1.43.117).
MEMORY = range(128, 10240 + 1)
STORAGE = range(512, 10240 + 1)
TIMEOUT = range(1, 900 + 1)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""Runtimes of Lambda that lambdamr supports (2026-11; botocore 1.43.117 lists 3.15 as
well, which nobody has tried); an image may hold another."""
ARCHITECTURES = ("x86_64", "arm64")
LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827)

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The Python that runs this: functions need the same minor version, for pickles of functions."""

_STACK = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}")
_ARN = re.compile(r"arn:aws[a-z-]*:([a-z]+):[^,\s]+")
_IMAGE = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[^\s@:]+([:@]\S+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a stack.

    Attributes:
        memory: MB of each function, ascending; a task that runs out of one gets the next.
        python: minor version of the functions, as ``"3.13"``.
        architecture: ``"x86_64"`` or ``"arm64"``.
        storage: MB of ``/tmp``.
        timeout: seconds that a task may take.
        log_days: days that logs are kept.
        job_days: days after which what jobs left behind is deleted.
        secrets: ARNs of secrets and SSM parameters that mappers may read.
        policies: ARNs of managed policies that mappers need.
        requirements: what the zip holds besides lambdamr, as ``name==version``.
        code_key: key of the zip in the bucket; "" while there is none.
        image_uri: an image in place of the zip; "" is none.
        repository: whether the stack has a repository for images.
        version: of lambdamr in the functions.

    Raises:
        InputError: a value is not possible.
    """

    memory: tuple[int, ...] = (1769,)
    python: str = HERE
    architecture: str = "x86_64"
    storage: int = 512
    timeout: int = 900
    log_days: int = 14
    job_days: int = 7
    secrets: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    code_key: str = ""
    image_uri: str = ""
    repository: bool = False
    version: str = __version__

    def __post_init__(self) -> None:
        if not self.memory or len(self.memory) > RUNGS:
            raise InputError(f"--memory takes 1 to {RUNGS} values, not {len(self.memory)}")
        for memory in self.memory:
            _within("--memory", memory, MEMORY, "MB")
        if list(self.memory) != sorted(set(self.memory)):
            raise InputError("--memory has to ascend: a task that ran out of memory goes one up")
        _within("--storage", self.storage, STORAGE, "MB")
        _within("--timeout", self.timeout, TIMEOUT, "seconds")
        _within("--job-days", self.job_days, range(1, 3651), "days")
        _one_of("--architecture", self.architecture, ARCHITECTURES)
        _one_of("--log-days", self.log_days, LOG_DAYS)
        if not self.image_uri:
            _one_of(
                "--python", self.python, PYTHONS, hint="an image may hold another (--image-uri)"
            )
        elif not _IMAGE.fullmatch(self.image_uri):
            raise InputError(
                f"--image-uri {self.image_uri!r} is not in ECR, where Lambda takes images from: "
                "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG"
            )
        _arns("--secret", self.secrets, {"secretsmanager", "ssm"})
        _arns("--policy", self.policies, {"iam"})
        if len(",".join(self.requirements)) > 4096:  # bytes of a parameter of CloudFormation
            raise InputError("there are too many requirements for a zip: use an image")

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> Settings:
        """Those of a stack that exists; only its Python and version are ours anew."""
        rungs = (int(parameters.get(f"Memory{n}", "0")) for n in range(1, RUNGS + 1))
        return cls(
            memory=tuple(memory for memory in rungs if memory),
            architecture=parameters["Architecture"],
            storage=int(parameters["EphemeralStorage"]),
            timeout=int(parameters["Timeout"]),
            log_days=int(parameters["LogDays"]),
            job_days=int(parameters["JobDays"]),
            secrets=_words(parameters["Secrets"]),
            policies=_words(parameters["Policies"]),
            requirements=_words(parameters["Requirements"]),
            code_key=parameters["CodeKey"],
            image_uri=parameters["ImageUri"],
            repository=parameters.get("Repository") == "true",
        )

    def parameters(self) -> dict[str, str]:
        """Those of the template."""
        rungs = [*self.memory, *[0] * (RUNGS - len(self.memory))]
        return {
            **{f"Memory{n}": str(memory) for n, memory in enumerate(rungs, 1)},
            "Architecture": self.architecture,
            "CodeBucket": "",
            "CodeKey": self.code_key,
            "EphemeralStorage": str(self.storage),
            "ImageUri": self.image_uri,
            "JobDays": str(self.job_days),
            "LambdamrVersion": self.version,
            "LogDays": str(self.log_days),
            "Policies": ",".join(self.policies),
            "PythonVersion": self.python,
            "Repository": "true" if self.repository else "false",
            "Requirements": ",".join(self.requirements),
            "Secrets": ",".join(self.secrets),
            "Timeout": str(self.timeout),
        }


def check_stack_name(name: str) -> str:
    """The name, if CloudFormation and the functions can bear it.

    Raises:
        InputError: they cannot.
    """
    if not _STACK.fullmatch(name):
        raise InputError(
            f"--stack {name!r} is not possible: a letter, then letters, digits and hyphens, "
            "40 at most"
        )
    return name


def here() -> str:
    """This Python and machine, for a person."""
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _within(option: str, value: int, limits: range, unit: str) -> None:
    if value not in limits:
        raise InputError(
            f"{option} {value} is not possible: Lambda takes {limits.start} to "
            f"{limits.stop - 1} {unit}"
        )


def _one_of(option: str, value: object, known: tuple[object, ...], hint: str = "") -> None:
    if value not in known:
        choices = ", ".join(str(choice) for choice in known)
        raise InputError(
            f"{option} {value} is not possible; there are {choices}" + (hint and f"; {hint}")
        )


def _arns(option: str, values: tuple[str, ...], services: set[str]) -> None:
    for value in values:
        match = _ARN.fullmatch(value)
        if match is None or match[1] not in services:
            raise InputError(
                f"{option} {value!r} has to be an ARN of {' or '.join(sorted(services))}"
            )
