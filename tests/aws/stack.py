"""The stack of the tests, as `lambdamr deploy` makes it; more functions; what lies where."""

import contextlib
import functools
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import botocore.config
import botocore.session
import cloudpickle

import lambdamr

REGION = "us-east-1"
ROLE = "arn:aws:iam::000000000000:role/lambdamr"
RUNTIME = "python3.11"
HANDLER = "lambdamr.runtimes.aws_lambda.handler"


@functools.cache  # it takes longer to make than most of what it is asked
def client(service, url):
    config = botocore.config.Config(
        s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=120
    )
    return botocore.session.get_session().create_client(
        service, region_name=REGION, endpoint_url=url, config=config
    )


@contextlib.contextmanager
def deployed(url, folder, *options):
    """The outputs of what `lambdamr deploy` made, within; afterwards `destroy` removes it."""
    lambdamr_command("deploy", *options, "--endpoint-url", url, folder=folder)
    [found] = client("cloudformation", url).describe_stacks(StackName="lambdamr")["Stacks"]
    yield {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}
    said = lambdamr_command("destroy", "--yes", "--endpoint-url", url, folder=folder)
    assert "The stack lambdamr is gone" in said


def lambdamr_command(*arguments, folder):
    """What the installed command says, when it runs in this folder."""
    script = Path(sys.executable).with_name("lambdamr")
    done = subprocess.run(
        [script, *arguments], cwd=folder, text=True, capture_output=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def remains(url):
    """All that a deployment, its functions and its jobs could have left."""
    found = {
        "buckets": client("s3", url).list_buckets()["Buckets"],
        "functions": client("lambda", url).list_functions()["Functions"],
        "log groups": client("logs", url).describe_log_groups()["logGroups"],
        "policies": client("iam", url).list_policies(Scope="Local")["Policies"],
        "repositories": client("ecr", url).describe_repositories()["repositories"],
        "queues": client("sqs", url).list_queues().get("QueueUrls", []),
        "roles": client("iam", url).list_roles()["Roles"],
        "stacks": client("cloudformation", url).describe_stacks()["Stacks"],
    }
    return {kind: things for kind, things in found.items() if things}


def function_zip():
    """cloudpickle and lambdamr, as the deployed functions have them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for package in (cloudpickle, lambdamr):
            root = Path(package.__file__).parent
            for path in sorted(root.rglob("*.py")):
                file.write(path, path.relative_to(root.parent))
    return packed.getvalue()


def create_bucket(url, name):
    client("s3", url).create_bucket(Bucket=name)


def create_queue(url, name):
    return client("sqs", url).create_queue(QueueName=name)["QueueUrl"]


def zip_of(source):
    """A module `main` for a function that is not quite ours."""
    packed = io.BytesIO(function_zip())
    with zipfile.ZipFile(packed, "a") as file:
        file.writestr("main.py", source)
    return packed.getvalue()


def create_function(
    url,
    name,
    bucket,
    code,
    *,
    environments,
    memory=1769,
    timeout=60,
    handler=HANDLER,
    log_group=None,
    **variables,
):
    """A function with as many versions as the gateway has environments for it."""
    client("lambda", url).create_function(
        FunctionName=name,
        Runtime=RUNTIME,
        Role=ROLE,
        Handler=handler,
        Code={"ZipFile": code},
        MemorySize=memory,
        Timeout=timeout,
        Environment={
            "Variables": {"LAMBDAMR_BUCKET": bucket, "AWS_ENDPOINT_URL": url, **variables}
        },
        **({"LoggingConfig": {"LogGroup": log_group}} if log_group else {}),
    )
    publish(url, name, environments)


def publish(url, name, environments):
    """Give a function as many versions as the gateway has environments for it."""
    for _ in range(environments):
        client("lambda", url).publish_version(FunctionName=name)


def keys(url, bucket, prefix=""):
    """What lies in a bucket."""
    pages = (
        client("s3", url).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    )
    return [one["Key"] for page in pages for one in page.get("Contents", ())]


def messages(url, queue):
    """How many wait in a queue, or are being looked at."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = client("sqs", url).get_queue_attributes(QueueUrl=queue, AttributeNames=names)
    return sum(map(int, answer["Attributes"].values()))


def failures_to(url, queue):
    """A destination on failure: puts on a queue what Lambda puts there (Lambda guide)."""
    sqs = client("sqs", url)

    def report(event, error):
        record = {
            "version": "1.0",
            "requestContext": {"functionArn": "arn:aws:lambda:f", "condition": "RetriesExhausted"},
            "requestPayload": event,
            "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
            "responsePayload": error,
        }
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(record))

    return report
