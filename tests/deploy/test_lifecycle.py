"""From nothing to a stack, and back to nothing."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lambdamr
from lambdamr.deploy import stack as stacks
from lambdamr.executors import aws_prices


def function(aws, name):
    return getattr(aws, "lambda").get_function_configuration(FunctionName=name)


@pytest.fixture
def stack(aws, command):
    command("deploy")
    yield
    command("destroy", "--yes")


def test_the_installed_command_deploys_and_destroys_from_an_empty_folder(aws, tmp_path):
    def lambdamr_command(*arguments):
        script = Path(sys.executable).with_name("lambdamr")
        done = subprocess.run(
            [script, *arguments], cwd=tmp_path, text=True, capture_output=True, env=os.environ
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = lambdamr_command("deploy", "--memory", "1769", "3538", "10240")
    assert "functions of 1769 MB, 3538 MB, 10240 MB" in said
    assert 'map_reduce(mapper, reducer, data, executor="lambda")' in said
    assert "is gone" in lambdamr_command("destroy", "--yes")
    assert list(tmp_path.iterdir()) == []


README = Path(__file__).parents[2] / "README.md"


def test_the_way_from_nothing_to_a_first_job_in_the_readme(aws, tmp_path):
    section = README.read_text(encoding="utf-8").partition("## On AWS Lambda")[2]
    lines = section.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert len(lines) < 10
    assert [line.split()[0] for line in lines[:2]] == ["pip", "aws"]  # are done, and not ours
    script = "\n".join(lines[2:])
    for written, run in (
        ("npartitions=100", "npartitions=8"),  # the emulator is one machine
        ("lambdamr destroy", "lambdamr destroy --yes"),  # nobody is here to be asked
    ):
        assert written in script
        script = script.replace(written, run)
    commands = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env=os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert f"\n{sum(range(10**7))}\n" in done.stdout
    assert "The stack lambdamr is gone" in done.stdout


def test_what_the_readme_says_of_costs_is_what_the_prices_say():
    section = README.read_text(encoding="utf-8").partition("## On AWS Lambda")[2]
    second = 1769 / 1024 * aws_prices.prices("us-east-1").gb_second["x86_64"]
    assert (
        f"costs {second:.6f} USD: 1,000 tasks of 10 s are {1000 * 10 * second:.2f} USD" in section
    )
    assert f"prices of {aws_prices.AS_OF}" in section
    cold = aws_prices.Meter(
        seconds=0.1, init=0.4, memory=1769, arch="x86_64", puts=0, gets=0
    )  # a hundred cold starts are the most of it
    assert 100 * aws_prices.prices("us-east-1").of(cold) < 0.002
    assert "That job costs less than 0.002 USD" in section


def test_the_outputs_say_what_the_executor_needs(aws, command, outputs):
    command("deploy", "--memory", 512, 1769)
    try:
        found = outputs()
        small, large = found["FunctionNames"].split(",")
        assert function(aws, small)["MemorySize"] == 512
        assert function(aws, large)["MemorySize"] == 1769
        assert function(aws, small)["Environment"]["Variables"] == {
            "LAMBDAMR_BUCKET": found["BucketName"],
            "LAMBDAMR_QUEUE_URL": found["QueueUrl"],
        }
        assert found["LambdamrVersion"] == lambdamr.__version__
        assert found["PythonVersion"] == f"{sys.version_info.major}.{sys.version_info.minor}"
        assert found["Architecture"] == "x86_64"
    finally:
        command("destroy", "--yes")


def test_a_second_deployment_changes_nothing_and_says_so(stack, command):
    assert "nothing changed" in command("deploy")


def test_what_is_not_said_stays_as_it_is(stack, aws, command, outputs):
    command("deploy", "--memory", "1769,3538", "--storage", 2048, "--timeout", 300)
    assert "functions of 1769 MB, 3538 MB" in command("deploy", "--timeout", 600)
    for name in outputs()["FunctionNames"].split(","):
        assert function(aws, name)["EphemeralStorage"] == {"Size": 2048}
        assert function(aws, name)["Timeout"] == 600


def test_another_version_of_the_template_is_a_change(stack, command, monkeypatch):
    template = stacks.template()
    monkeypatch.setattr(stacks, "template", lambda: template.replace("Tasks of", "Work of"))
    assert "another version of lambdamr has another" in command("deploy", "--dry-run")
    assert "is ready" in command("deploy")
    assert "nothing changed" in command("deploy")


def test_a_ladder_grows_and_shrinks(stack, aws, command, outputs):
    command("deploy", "--memory", 1769, 3538, 7076, 10240)
    assert len(outputs()["FunctionNames"].split(",")) == 4
    command("deploy", "--memory", 2048)
    [only] = outputs()["FunctionNames"].split(",")
    assert function(aws, only)["MemorySize"] == 2048
    assert len(getattr(aws, "lambda").list_functions()["Functions"]) == 1


def test_a_dry_run_changes_nothing(aws, command, outputs):
    said = command("deploy", "--memory", 1769, 3538, "--dry-run")
    assert "would make the stack lambdamr" in said
    assert aws.cloudformation.describe_stacks()["Stacks"] == []
    command("deploy")
    try:
        before = outputs(), aws.s3.list_objects_v2(Bucket=outputs()["BucketName"])["Contents"]
        said = command("deploy", "--memory", 1769, 3538, "--timeout", 60, "--dry-run")
        assert "would change Memory2: 0 -> 3538" in said
        assert "would change Timeout: 900 -> 60" in said
        assert said.count("would change") == 2
        assert "nothing would change" in command("deploy", "--dry-run")
        after = outputs(), aws.s3.list_objects_v2(Bucket=outputs()["BucketName"])["Contents"]
        assert after == before
    finally:
        command("destroy", "--yes")


def test_the_functions_get_the_requirements_and_keep_them(stack, aws, command, outputs, tmp_path):
    (tmp_path / "requirements.txt").write_text("six==1.16.0\n")
    command("deploy", "--requirements", tmp_path / "requirements.txt")
    assert outputs()["Requirements"] == "six==1.16.0"
    assert "nothing changed" in command("deploy")
    bucket = outputs()["BucketName"]
    [code] = aws.s3.list_objects_v2(Bucket=bucket, Prefix="code/")["Contents"]  # one, not two
    with zipfile.ZipFile(
        io.BytesIO(aws.s3.get_object(Bucket=bucket, Key=code["Key"])["Body"].read())
    ) as file:
        names = set(file.namelist())
    assert {"six.py", "lambdamr/worker.py", "cloudpickle/__init__.py"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_destroy_empties_the_bucket_of_objects_versions_and_uploads(aws, command, outputs):
    command("deploy")
    bucket = outputs()["BucketName"]
    aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        aws.s3.put_object(Bucket=bucket, Key="jobs/a/1", Body=body)
    aws.s3.delete_object(Bucket=bucket, Key="jobs/a/1")
    aws.s3.create_multipart_upload(Bucket=bucket, Key="jobs/a/2")
    said = command("destroy", "--yes")
    assert "and 5 objects with it" in said  # the zip, two versions, a delete marker, an upload
    assert f"removed AWS::S3::Bucket {bucket}" in said
    assert "removed AWS::Logs::LogGroup /lambdamr/lambdamr" in said


def test_destroying_nothing_is_no_error(aws, command):
    assert "nothing to remove" in command("destroy", "--yes")


def test_destroy_asks_first(stack, aws, command):
    assert "pass --yes" in command("destroy", code=2)
    assert len(aws.cloudformation.describe_stacks()["Stacks"]) == 1


def test_asynchronous_invocations_are_not_tried_again_by_the_service(stack, aws, outputs):
    config = getattr(aws, "lambda").get_function_event_invoke_config(
        FunctionName=outputs()["FunctionNames"], Qualifier="$LATEST"
    )
    assert config["MaximumRetryAttempts"] == 0


def test_two_stacks_live_beside_each_other(stack, command, outputs):
    said = command("deploy", "--stack", "other")
    assert 'LambdaExecutor("other", region="us-east-1")' in said
    assert outputs("other")["BucketName"] != outputs()["BucketName"]
    assert "The stack other is gone" in command("destroy", "--stack", "other", "--yes")
