"""Building images, and running what is in one."""

import contextlib
import subprocess
import sys
from pathlib import Path

ROOT_OF_PROJECT = Path(__file__).parents[2]
BASE = "localhost/lambdamr-test-base:latest"
HERE = Path(__file__).parent
COMMAND = [sys.executable, "-P", "-c", "from lambdamr.cli import main; main()"]


def build_image(*arguments):
    """What `lambdamr image build` said: its status, its output, its errors."""
    command = [*COMMAND, "image", "build", "--engine", "buildah", "--base", BASE, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@contextlib.contextmanager
def mounted(name):
    """The folder with an image's files."""
    container = buildah("from", "--pull-never", name)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


def buildah(*words):
    done = subprocess.run(["buildah", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_image(image, seen, *command, **variables):
    """A command that runs as Lambda would run it; see `run-image`."""
    environment = ["PATH=/usr/local/bin:/usr/bin:/bin", *image_environment(image.name)]
    environment += [f"{name}={value}" for name, value in variables.items()]
    return [str(HERE / "run-image"), str(image.root), str(seen), "-i", *environment, *command]


def image_environment(name):
    template = "{{range .OCIv1.Config.Env}}{{println .}}{{end}}"
    return buildah("inspect", "--type=image", "--format", template, name).splitlines()
