"""The doctor: well, and each fault with what to do about it."""

import json

import pytest

import lambdamr
from lambdamr.deploy import doctor, stack
from lambdamr.executors import aws_prices


@pytest.fixture
def deployed(aws, command, outputs):
    command("deploy")
    yield outputs()
    command("destroy", "--yes")


def test_a_healthy_stack(deployed, command):
    said = command("doctor")
    assert "ok round trip: a job of one partition: " in said
    assert f"ok prices: list prices of {aws_prices.AS_OF} for us-east-1" in said
    assert "BAD" not in said
    assert "no job has anything" in command("jobs")


def test_a_first_job_runs_on_what_was_deployed(deployed):
    total = lambdamr.map_reduce(
        sum, lambda a, b: a + b, range(1000), executor="lambda", npartitions=8
    )
    assert total == sum(range(1000))


def test_no_stack(aws, command):
    said = command("doctor", code=1)
    assert "BAD stack: there is no stack lambdamr in us-east-1 -> run `lambdamr deploy`" in said


def test_no_credentials(no_aws, command):
    said = command("doctor", "--region", "eu-west-1", code=1)
    assert "BAD credentials: no AWS credentials were found -> run `aws configure`" in said


def test_a_foreign_stack(aws, command):
    template = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    aws.cloudformation.create_stack(StackName="lambdamr", TemplateBody=json.dumps(template))
    waiting = {"StackName": "lambdamr", "WaiterConfig": {"Delay": 1}}
    aws.cloudformation.get_waiter("stack_create_complete").wait(**waiting)
    assert "was not made by lambdamr" in command("doctor", code=1)
    aws.cloudformation.delete_stack(StackName="lambdamr")
    aws.cloudformation.get_waiter("stack_delete_complete").wait(**waiting)


def test_another_python(aws, command):
    command("deploy", "--python", "3.14")
    said = command("doctor", code=1)
    assert "BAD versions: the functions have Python 3.14, and this is Python" in said
    assert "run `lambdamr deploy` with this Python" in said
    assert "round trip" not in said
    command("destroy", "--yes")


def test_another_lambdamr(deployed, command, monkeypatch):
    monkeypatch.setattr(lambdamr, "__version__", "99.0")
    said = command("doctor", code=1)
    assert f"the functions have lambdamr {deployed['LambdamrVersion']}, and this is 99.0" in said


def test_a_function_that_is_gone(deployed, aws, command):
    getattr(aws, "lambda").delete_function(FunctionName=deployed["FunctionNames"])
    said = command("doctor", code=1)
    assert f"BAD {deployed['FunctionNames']}: " in said
    assert "Function not found" in said


def test_a_bucket_that_is_gone(deployed, aws, command):
    bucket = deployed["BucketName"]
    for each in aws.s3.list_objects_v2(Bucket=bucket)["Contents"]:
        aws.s3.delete_object(Bucket=bucket, Key=each["Key"])
    aws.s3.delete_bucket(Bucket=bucket)
    assert "BAD bucket: " in command("doctor", code=1)
    command("destroy", "--yes")  # all the same


def test_a_region_without_prices():
    finding = doctor._prices("moon-north-1")
    assert finding.verdict == "odd"
    assert "prices=" in finding.remedy


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("UPDATE_IN_PROGRESS", "wait until that is done"),
        ("ROLLBACK_COMPLETE", "run `lambdamr deploy`"),
        ("UPDATE_ROLLBACK_FAILED", "run `lambdamr destroy`, then `lambdamr deploy`"),
    ],
)
def test_states_of_a_stack(status, said):
    functions = {"FunctionNames": "a"} if status.startswith("UPDATE") else {}
    found = stack.Stack("lambdamr", "id", status, {}, functions)
    finding = doctor._stack(None, "lambdamr", found)
    assert finding.verdict == "bad"
    assert said in finding.remedy
