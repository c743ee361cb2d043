"""What the template grants, and that its rungs are one rung, four times."""

import re

import pytest
import yaml

from lambdamr.deploy import stack
from lambdamr.deploy.settings import RUNGS, Settings


class Loader(yaml.SafeLoader):
    """Reads ``!Ref Bucket`` as ``{"Ref": "Bucket"}``."""


def tagged(loader, tag, node):
    kinds = {
        yaml.SequenceNode: loader.construct_sequence,
        yaml.MappingNode: loader.construct_mapping,
    }
    made = kinds.get(type(node))
    return {tag: made(node, deep=True) if made else loader.construct_scalar(node)}


Loader.add_multi_constructor("!", tagged)


@pytest.fixture(scope="module")
def template():
    return yaml.load(stack.template(), Loader)


@pytest.fixture(scope="module")
def resources(template):
    return template["Resources"]


def test_the_rungs_differ_in_their_number_only(resources):
    for kind in ("Function", "Asynchronous"):
        rungs = [
            re.sub(rf"(Memory|Function){n}\b", r"\1N", str(resources[f"{kind}{n}"]))
            for n in range(1, RUNGS + 1)
        ]
        assert len(set(rungs)) == 1
    assert f"Function{RUNGS + 1}" not in resources


def test_the_settings_are_the_parameters(template):
    assert set(Settings().parameters()) == set(template["Parameters"])


def test_settings_survive_the_stack():
    settings = Settings(
        memory=(512, 1769),
        architecture="arm64",
        storage=1024,
        timeout=60,
        log_days=1,
        job_days=2,
        secrets=("arn:aws:secretsmanager:eu-west-1:000000000000:secret:token",),
        policies=("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess",),
        requirements=("six==1.16.0",),
        code_key="code/1.zip",
    )
    assert Settings.from_parameters(settings.parameters()) == settings


def test_the_role_may_touch_what_is_its_own_and_nothing_else(resources):
    [policy] = resources["Role"]["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    granted = {}
    for statement in statements:
        if "If" in statement:  # secrets, if there are any
            _, statement, _ = statement["If"]
            assert statement["Resource"] == {"Ref": "Secrets"}
            continue
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            granted[action] = statement["Resource"]
        assert statement["Effect"] == "Allow"
    assert granted == {
        "s3:PutObject": {"Sub": "${Bucket.Arn}/jobs/*"},
        "s3:AbortMultipartUpload": {"Sub": "${Bucket.Arn}/jobs/*"},
        "s3:GetObject": {"Sub": "${Bucket.Arn}/functions/*"},  # and jobs, the statement before
        "s3:ListBucket": {"GetAtt": "Bucket.Arn"},
        "sqs:SendMessage": {"GetAtt": "Queue.Arn"},
        "logs:CreateLogStream": {"GetAtt": "LogGroup.Arn"},
        "logs:PutLogEvents": {"GetAtt": "LogGroup.Arn"},
    }


def test_the_bucket_is_private_encrypted_and_forgets(resources):
    bucket = resources["Bucket"]["Properties"]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["BucketEncryption"]
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert rules["jobs"]["Prefix"] == "jobs/"
    assert rules["jobs"]["ExpirationInDays"] == {"Ref": "JobDays"}
    assert rules["functions"]["Prefix"] == "functions/"
    assert rules["functions"]["ExpirationInDays"] == 30
    assert rules["uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 1
    assert "Prefix" not in rules["uploads"]


@pytest.mark.parametrize("policy", ["BucketPolicy", "QueuePolicy"])
def test_connections_that_are_not_encrypted_are_refused(resources, policy):
    [statement] = resources[policy]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Principal"] == "*"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_nothing_outlives_the_stack(resources):
    assert not [
        name
        for name, resource in resources.items()
        if {resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")} - {None, "Delete"}
    ]


def test_the_template_is_small_enough_to_be_sent():
    assert len(stack.template().encode()) < 51_200  # bytes of a body (CloudFormation quotas)
