"""The pipelines of GitHub Actions and Jenkins: they parse, and call the same targets of make."""

import re
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_groovy
import yaml

PROJECT = Path(__file__).parents[1]
WORKFLOW = PROJECT / ".github/workflows/image.yml"
JENKINSFILE = PROJECT / "deploy/Jenkinsfile"


def in_workflow():
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def in_jenkinsfile():
    return re.findall(r"\bsh '([^']*)'", JENKINSFILE.read_text())


def made(commands):
    """The targets of make that these build."""
    return [target for line in commands for target in re.findall(r"\bmake ([a-z-]+)$", line)]


def installed(commands):
    """The packages of Debian."""
    [line] = [line for line in commands if "apt-get install" in line]
    return set(line.partition("--no-install-recommends")[2].split())


def has_error(source):
    language = tree_sitter.Language(tree_sitter_groovy.language())
    return tree_sitter.Parser(language).parse(source).root_node.has_error


def test_both_call_the_same_targets_which_there_are():
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert made(in_workflow()) == made(in_jenkinsfile()) == ["image-test", "image-push"]
    assert {"image-test", "image-push"} <= set(targets)


def test_they_do_nothing_else_but_install_packages():
    for commands in (in_workflow(), in_jenkinsfile()):
        assert len(commands) == len(made(commands)) + sum("apt-get" in line for line in commands)


def test_both_install_the_same_packages():
    # A container of GitHub has no git; an agent of Jenkins used it to get here.
    assert installed(in_workflow()) - {"git"} == installed(in_jenkinsfile())


def test_the_jenkinsfile_is_groovy():
    source = JENKINSFILE.read_bytes()
    assert not has_error(source)
    assert has_error(source.replace(b"stage('push') {", b"stage('push' {"))


@pytest.mark.parametrize("word", ["AKIA", "aws_secret", "password", "SECRET_ACCESS_KEY"])
def test_no_credential_is_in_them(word):
    for file in (WORKFLOW, JENKINSFILE):
        assert word.lower() not in file.read_text().lower()
