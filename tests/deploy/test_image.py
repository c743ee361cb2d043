"""Images: what goes in, by content; pushing and deploying, with an engine that only writes down."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lambdamr.deploy import engines, image as images, requirements
from lambdamr.deploy.commands import app
from lambdamr.deploy.image import Recipe
from lambdamr.errors import InputError

FAKE = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
words, stdin = sys.argv[1:], sys.stdin.read()
with open(folder / "calls", "a") as file:
    file.write(json.dumps([words, stdin]) + "\\n")
tags = folder / "tags"
known = tags.read_text().split() if tags.exists() else []
if words[:1] == ["info"]:
    print(json.dumps({{"ServerErrors": {errors!r}}}))
elif words[:2] == ["image", "inspect"]:
    if words[2] not in known:
        sys.exit(1)
    print(123456789)
elif words[:1] == ["build"]:
    if (folder / "refuse").exists():
        sys.exit("step 3\\nerror: the base has Python 3.10, and the image is to be of 3.11")
    [tag] = [word.partition("=")[2] for word in words if word.startswith("--tag=")]
    tags.write_text("\\n".join([*known, tag]))
elif words[:1] == ["push"] and (folder / "refuse").exists():
    sys.exit("denied: your authorization token has expired")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts engines on PATH, alone there, that write down what they are asked."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))

    def install(name="docker", errors=()):
        program = path / name
        program.write_text(
            FAKE.format(python=sys.executable, folder=str(tmp_path), errors=list(errors))
        )
        program.chmod(0o755)

    install.calls = lambda: [
        json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()
    ]
    install.refuse = (tmp_path / "refuse").touch
    return install


@pytest.fixture
def no_pip(monkeypatch):
    """Requirements are files of a line; pip is tested elsewhere."""

    def install(file, target, *, also, **_):
        (target / "brought.py").write_text(f"{file and Path(file).read_text()} {sorted(also)}")

    monkeypatch.setattr(requirements, "install", install)


def builds(fake):
    return [words for words, _ in fake.calls() if words[0] == "build"]


def test_the_same_contents_have_the_same_tag_and_are_built_once(fake, no_pip, tmp_path):
    fake()
    engine = engines.find()
    first = images.build(Recipe(python="3.11"), engine)
    again = images.build(Recipe(python="3.11"), engine)
    assert (first.built, again.built) == (True, False)
    assert first.reference == again.reference
    assert first.size == 123456789
    assert len(builds(fake)) == 1


def test_whatever_goes_in_changes_the_tag(fake, no_pip, tmp_path):
    fake()
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("uproot")
    header = tmp_path / "mine.h"
    header.write_text("int mine();")
    recipes = [
        Recipe(python="3.11"),
        Recipe(python="3.12"),
        Recipe(python="3.11", architecture="arm64"),
        Recipe(python="3.11", base="debian:12"),
        Recipe(python="3.11", requirements=wanted),
    ]
    tags = {images.build(recipe, engines.find()).tag for recipe in recipes}
    wanted.write_text("awkward")
    tags.add(images.build(recipes[-1], engines.find()).tag)
    assert len(tags) == len(recipes) + 1
    assert "--platform=linux/arm64" in builds(fake)[2]
    assert "--build-arg=BASE=debian:12" in builds(fake)[3]


def test_why_a_build_failed_is_one_line(fake, no_pip):
    fake()
    fake.refuse()
    with pytest.raises(InputError) as caught:
        images.build(Recipe(python="3.11"), engines.find())
    assert str(caught.value).splitlines()[1:] == [
        "  error: the base has Python 3.10, and the image is to be of 3.11"
    ]


def test_headers_that_are_missing_or_have_nobody_to_read_them(fake, no_pip, tmp_path):
    fake()
    for header, said in ((tmp_path / "no.h", "no file or folder"), (tmp_path, "without: say")):
        with pytest.raises(InputError, match=said):
            images.build(Recipe(python="3.11", headers=(header,)), engines.find())


def test_an_engine_whose_daemon_is_off_is_passed_over(fake):
    fake("docker", errors=["Cannot connect to the Docker daemon"])
    with pytest.raises(InputError, match=r"docker is here and does not work.*daemon"):
        engines.find()
    fake("podman")
    assert engines.find().name == "podman"
    with pytest.raises(InputError, match="buildah is installed"):
        engines.find("buildah")
    with pytest.raises(InputError, match="there are docker, podman, buildah"):
        engines.find("kaniko")


def test_without_an_engine(fake):
    with pytest.raises(InputError, match="apt-get install buildah"):
        engines.find()


def test_deploy_builds_pushes_and_deploys(aws, fake, no_pip):
    fake()
    run = CliRunner().invoke
    done = run(app, ["deploy", "--stack", "of-an-image", "--image", "--root", ""])
    try:
        assert done.exit_code == 0, done.output
        calls = fake.calls()
        [login] = [(words, stdin) for words, stdin in calls if words[0] == "login"]
        [pushed] = [words[1] for words, _ in calls if words[0] == "push"]
        assert login[0][:4] == ["login", "--username", "AWS", "--password-stdin"]
        assert login[1]
        assert all(login[1] not in " ".join(words) for words, _ in calls)
        assert calls[-1][0][0] == "logout" or calls[-2][0][0] == "logout"
        [stack] = aws.cloudformation.describe_stacks(StackName="of-an-image")["Stacks"]
        parameters = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
        outputs = {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}
        assert parameters["ImageUri"] == pushed
        assert pushed.startswith(outputs["RepositoryUri"] + ":")
        assert outputs["FunctionNames"]
    finally:
        assert run(app, ["destroy", "--stack", "of-an-image", "--yes"]).exit_code == 0


def test_a_registry_that_refuses(aws, fake, no_pip, tmp_path):
    fake()
    run = CliRunner().invoke
    assert run(app, ["image", "build", "--root", ""]).exit_code == 0
    fake.refuse()
    done = run(app, ["image", "push", "--stack", "of-an-image", "--root", ""])
    assert run(app, ["destroy", "--stack", "of-an-image", "--yes"]).exit_code == 0
    assert done.exit_code == 1
    assert "docker push says" in done.output
    assert "authorization token has expired" in done.output


def test_options_that_do_not_go_together(no_aws):
    run = CliRunner().invoke
    for words, said in (
        (["--image", "--dry-run"], "--image goes neither"),
        (["--base", "debian:12"], "are for --image"),
    ):
        done = run(app, ["deploy", "--region", "us-east-1", *words])
        assert done.exit_code == 2
        assert said in done.output
