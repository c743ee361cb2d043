"""What can be wrong, and what the commands say to do about it."""

import json
import subprocess
import sys

import pytest
from botocore.exceptions import ClientError

from lambdamr.deploy import package, session, stack


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--memory", 64], "--memory 64 is not possible: Lambda takes 128 to 10240 MB"),
        (["--memory", 10241], "--memory 10241 is not possible"),
        (["--memory", 3538, 1769], "--memory has to ascend"),
        (["--memory", 1, 2, 3, 4, 5], "--memory takes 1 to 4 values, not 5"),
        (["--memory", "big"], "--memory takes numbers of MB, not 'big'"),
        ([1769], "what is '1769'?"),
        (["--storage", 100], "--storage 100 is not possible: Lambda takes 512 to 10240 MB"),
        (["--timeout", 901], "--timeout 901 is not possible: Lambda takes 1 to 900 seconds"),
        (["--log-days", 2], "--log-days 2 is not possible; there are 1, 3, 5"),
        (["--job-days", 0], "--job-days 0 is not possible"),
        (["--python", "3.8"], "--python 3.8 is not possible; there are 3.11"),
        (["--architecture", "arm"], "--architecture arm is not possible; there are x86_64, arm64"),
        (["--image-uri", "python:3.11"], "is not in ECR, where Lambda takes images from"),
        (["--secret", "my-token"], "has to be an ARN of secretsmanager or ssm"),
        (["--policy", "ReadOnly"], "has to be an ARN of iam"),
        (["--stack", "my_stack"], "--stack 'my_stack' is not possible"),
        (["--requirements", "nowhere.txt"], "there is no file nowhere.txt"),
        (["--endpoint-url", "localhost:4566"], "must begin with http:// or https://"),
        (["--region", "mars-1"], "no Lambda in a region 'mars-1'"),
        (["--region", "eu-wset-1"], "did you mean one of eu-west-1"),
        (["--profile", "nobody"], "there is no AWS profile 'nobody'; known are: none"),
    ],
)
def test_an_impossible_option_is_an_error_before_anything_is_sent(no_aws, command, options, said):
    # There are no credentials: whoever asks AWS gets another error.
    where = [] if "--region" in options else ["--region", "eu-west-1"]
    assert said in command("deploy", *where, *options, code=2)


def test_no_region(no_aws, command):
    assert "no AWS region is known: pass --region" in command("deploy", code=2)


@pytest.mark.parametrize("name", ["deploy", "destroy", "jobs", "clean"])
def test_no_credentials(no_aws, command, name):
    said = command(name, "--region", "eu-west-1", code=1)
    assert "no AWS credentials were found: run `aws configure`" in said


def test_half_of_the_credentials(no_aws, command, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")
    said = command("deploy", "--region", "eu-west-1", code=1)
    assert "credentials are not complete" in said


def test_nobody_answers(no_aws, command, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "000000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    nowhere = ["--region", "eu-west-1", "--endpoint-url", "http://127.0.0.1:9"]
    assert "AWS could not be reached" in command("deploy", *nowhere, code=1)


def test_an_endpoint_of_the_environment_without_http(no_aws, command, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "000000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:4566")
    said = command("jobs", "--region", "eu-west-1", code=2)
    assert "check AWS_ENDPOINT_URL, which must begin with http://" in said


def test_another_region_has_no_stack(aws, command):
    command("deploy")
    said = command("jobs", "--region", "eu-west-1", code=2)
    assert "there is no stack lambdamr in eu-west-1" in said
    command("destroy", "--yes")


FOREIGN = {
    "Description": "Somebody's",
    "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
}


@pytest.mark.parametrize("arguments", [["deploy"], ["destroy", "--yes"], ["clean"]])
def test_a_stack_of_somebody_else_is_left_alone(aws, command, arguments):
    aws.cloudformation.create_stack(StackName="lambdamr", TemplateBody=json.dumps(FOREIGN))
    aws.cloudformation.get_waiter("stack_create_complete").wait(
        StackName="lambdamr", WaiterConfig={"Delay": 1}
    )
    try:
        assert "was not made by lambdamr, and is left alone" in command(*arguments, code=1)
        assert len(aws.sqs.list_queues()["QueueUrls"]) == 1
    finally:
        aws.cloudformation.delete_stack(StackName="lambdamr")
        aws.cloudformation.get_waiter("stack_delete_complete").wait(
            StackName="lambdamr", WaiterConfig={"Delay": 1}
        )


BROKEN = """\
  Broken:
    Type: AWS::Lambda::EventInvokeConfig
    Properties:
      FunctionName: nobody
      Qualifier: $LATEST
      MaximumRetryAttempts: 0
"""


@pytest.fixture
def broken(monkeypatch):
    """Gives the template a resource that cannot be made, until it is called with False."""
    template = stack.template()
    refused = template.replace("Resources:\n", f"Resources:\n{BROKEN}", 1)
    assert refused != template
    return lambda wanted: monkeypatch.setattr(
        stack, "template", lambda: refused if wanted else template
    )


def test_a_failed_creation_says_which_resource_and_why_and_the_next_begins_anew(
    broken, aws, command
):
    broken(True)
    said = command("deploy", code=1)
    assert "the stack lambdamr is ROLLBACK_COMPLETE" in said
    assert "Broken (AWS::Lambda::EventInvokeConfig): " in said
    assert "nobody" in said
    assert "run `lambdamr deploy` again: it begins anew" in said
    broken(False)
    said = command("deploy")
    assert "removing what an earlier attempt left (ROLLBACK_COMPLETE)" in said
    assert "is ready" in said
    command("destroy", "--yes")


def test_a_failed_change_leaves_everything_as_it_was(broken, aws, command, outputs):
    command("deploy")
    before = outputs()
    broken(True)
    said = command("deploy", "--timeout", 60, code=1)
    assert "Broken (AWS::Lambda::EventInvokeConfig): " in said
    assert "everything is as it was before" in said
    assert outputs() == before
    broken(False)
    command("deploy")
    command("destroy", "--yes")


def test_requirements_that_do_not_exist(aws, command, tmp_path):
    (tmp_path / "requirements.txt").write_text("six==0.0.99\n")
    said = command("deploy", "--requirements", tmp_path / "requirements.txt", code=2)
    assert "not all of it can be installed for Lambda" in said
    assert "No matching distribution found for six==0.0.99" in said
    assert "needs an image (--image-uri)" in said


def test_a_zip_that_is_too_large_names_what_is_large(aws, command, monkeypatch):
    monkeypatch.setattr(package, "LIMIT", 100_000)
    said = command("deploy", code=2)
    assert "The largest are lambdamr" in said
    assert "which may have 10 GB" in said


def test_requirements_and_an_image_exclude_each_other(aws, command, tmp_path):
    (tmp_path / "requirements.txt").write_text("six\n")
    image = "000000000000.dkr.ecr.us-east-1.amazonaws.com/lambdamr:1"
    files = ["--requirements", tmp_path / "requirements.txt"]
    assert "put them into it" in command("deploy", "--image-uri", image, *files, code=2)


def test_another_python_than_that_of_the_functions_is_told(aws, command):
    assert "Start jobs with Python 3.14; this is" in command("deploy", "--python", "3.14")
    command("destroy", "--yes")


def test_a_stack_that_terraform_keeps_is_left_to_it(aws, command):
    command("deploy")
    [stack] = aws.cloudformation.describe_stacks(StackName="lambdamr")["Stacks"]
    parameters = [
        {**each, "ParameterValue": "theirs"} if each["ParameterKey"] == "CodeBucket" else each
        for each in stack["Parameters"]
    ]
    aws.s3.create_bucket(Bucket="theirs")
    [code] = [each for each in parameters if each["ParameterKey"] == "CodeKey"]
    bucket = next(
        each["OutputValue"] for each in stack["Outputs"] if each["OutputKey"] == "BucketName"
    )
    aws.s3.copy_object(
        Bucket="theirs",
        Key=code["ParameterValue"],
        CopySource={"Bucket": bucket, "Key": code["ParameterValue"]},
    )
    aws.cloudformation.update_stack(
        StackName="lambdamr",
        UsePreviousTemplate=True,
        Parameters=parameters,
        Capabilities=["CAPABILITY_IAM"],
    )
    aws.cloudformation.get_waiter("stack_update_complete").wait(
        StackName="lambdamr", WaiterConfig={"Delay": 1}
    )
    assert "is to be changed there" in command("deploy", code=1)
    aws.s3.delete_object(Bucket="theirs", Key=code["ParameterValue"])
    aws.s3.delete_bucket(Bucket="theirs")
    command("destroy", "--yes")


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("User x is not authorized to perform: iam:CreateRole", "needs this permission"),
        ("Value 10240 at 'memorySize' ... less than or equal to 3008", "--memory 1769 3008"),
        ("/lambdamr/lambdamr already exists in stack arn:...", "take another --stack"),
        ("Source image 0.dkr.ecr.x.amazonaws.com/a:1 does not exist", "push it to ECR"),
        ("You have exceeded the limit of buckets", "Service Quotas"),
    ],
)
def test_what_cloudformation_says_of_a_failure_has_a_remedy(reason, remedy):
    failed = stack.Event("Thing", "AWS::Some::Thing", "CREATE_FAILED", reason)
    taken_along = stack.Event("Other", "AWS::Other", "CREATE_FAILED", "Resource creation cancelled")
    said = stack._why("lambdamr", "ROLLBACK_COMPLETE", [failed, taken_along])
    assert f"Thing (AWS::Some::Thing): {reason}\n  -> " in said
    assert remedy in said
    assert "Other" not in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ExpiredToken", "have expired: run `aws sso login`"),
        ("RequestExpired", "have expired: run `aws sso login`"),
        ("InvalidClientTokenId", "AWS does not know these credentials"),
        ("SignatureDoesNotMatch", "AWS does not know these credentials"),
        ("AccessDenied", "no permission for CreateStack: what AWS said"),
        ("Throttling", "wait a minute and run it again"),
        ("LimitExceededException", "Service Quotas shows the limit"),
        ("Odd", "CreateStack: what AWS said (Odd)"),
    ],
)
def test_what_aws_answers_is_told_with_what_to_do(code, said):
    error = ClientError({"Error": {"Code": code, "Message": "what AWS said"}}, "CreateStack")
    assert said in session.explain(error)


def test_a_zip_that_cannot_be_written(command, tmp_path):
    said = command("package", "--output", tmp_path / "nowhere" / "a.zip", code=2)
    assert "a.zip cannot be written" in said


def test_requirements_that_are_no_text(command, tmp_path):
    (tmp_path / "requirements.txt").write_bytes(b"\xff\xfe")
    files = ["--requirements", tmp_path / "requirements.txt"]
    said = command("package", "--output", tmp_path / "a.zip", *files, code=2)
    assert "requirements.txt cannot be read" in said


@pytest.mark.parametrize("missing", ["typer", "botocore", "packaging"])
def test_without_the_extra_it_is_said_what_to_install(missing):
    program = f"import sys; sys.modules[{missing!r}] = None; from lambdamr import cli; cli.main()"
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True)
    assert done.returncode == 1
    assert f"{missing}" in done.stderr
    assert "pip install 'lambdamr[aws]'" in done.stderr
    assert "Traceback" not in done.stderr
