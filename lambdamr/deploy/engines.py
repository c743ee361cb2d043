"""What builds and pushes images: docker, podman or buildah, whichever is there and works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambdamr.errors import DeployError, InputError

ENGINES = ("docker", "podman", "buildah")
_PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
_LINES = 15  # of what a failed build said


@dataclass(frozen=True, slots=True)
class Engine:
    """One of `ENGINES`, on PATH.

    Settings of an engine are its own affair (``DOCKER_HOST``, ``BUILDAH_ISOLATION``,
    ``STORAGE_DRIVER``, ...): it gets the environment.
    """

    name: str

    def has(self, reference: str) -> bool:
        """Whether this image is here."""
        return self._run(*self._inspect(reference)).returncode == 0

    def size(self, reference: str) -> int | None:
        """Bytes of the image, unpacked; None where the engine does not say."""
        if self.name == "buildah":
            return None
        done = self._run(*self._inspect(reference), "--format", "{{.Size}}")
        return int(done.stdout) if done.stdout.strip().isdigit() else None

    def build(
        self, context: Path, reference: str, architecture: str, arguments: Mapping[str, str]
    ) -> None:
        """Build the Dockerfile of a context.

        Raises:
            InputError: it says why in the last lines.
        """
        command = ["build" if self.name != "buildah" else "bud"]
        command += [f"--platform={_PLATFORMS[architecture]}", f"--tag={reference}"]
        command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        if self.name != "docker":
            command.append("--format=docker")  # Lambda takes OCI, too; all engines make the same
        done = self._run(*command, str(context))
        if done.returncode:
            raise InputError(f"the image could not be built. {self.name} says:\n{_why(done)}")

    def push(self, reference: str, target: str, password: str) -> None:
        """Push an image to a registry of ECR.

        Args:
            reference: of the image here.
            target: where to, with its tag.
            password: of the user ``AWS``; it goes through a pipe, into a file that is gone after.

        Raises:
            DeployError: the registry refused; says why.
        """
        registry = target.partition("/")[0]
        login = ["login", "--username", "AWS", "--password-stdin", registry]
        steps: list[tuple[Sequence[str], str | None]] = [
            (login, password),
            (["tag", reference, target], None),
            (["push", target], None),
        ]
        try:
            for words, stdin in steps:
                done = self._run(*words, stdin=stdin)
                if done.returncode:
                    raise DeployError(
                        f"the image could not be pushed to {registry}. {self.name} {words[0]} "
                        f"says:\n{_why(done)}"
                    )
        finally:
            self._run("logout", registry)

    def _inspect(self, reference: str) -> list[str]:
        if self.name == "buildah":
            return ["inspect", "--type=image", reference]
        return ["image", "inspect", reference]

    def _run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        # Docker's attestations make an index of a single image, which Lambda does not take.
        environment = os.environ | {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        return subprocess.run(
            [self.name, *words],
            input=stdin if stdin is not None else "",
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


def find(name: str | None = None) -> Engine:
    """The engine of this name, or the first one that works.

    Raises:
        InputError: there is none.
    """
    if name is not None and name not in ENGINES:
        raise InputError(f"--engine {name} is not possible; there are {', '.join(ENGINES)}")
    there = [each for each in ([name] if name else ENGINES) if shutil.which(each)]
    for each in there:
        if _works(each):
            return Engine(each)
    if there:
        raise InputError(f"{' and '.join(there)} is here and does not work: is its daemon running?")
    raise InputError(
        f"{name or 'none of ' + ', '.join(ENGINES)} is installed, and images are built with one: "
        "on Debian and Ubuntu, apt-get install buildah"
    )


def _works(name: str) -> bool:
    done = subprocess.run(
        [name, "info"] if name == "buildah" else [name, "info", "--format", "json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return False
    if name != "docker":
        return True
    try:  # docker answers without its daemon, and says so
        return not json.loads(done.stdout).get("ServerErrors")
    except ValueError:
        return True


def _why(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    ours = [line[line.index("error: ") :] for line in lines if "error: " in line][:1]
    return "\n".join(f"  {line}" for line in (ours or lines[-_LINES:]))
