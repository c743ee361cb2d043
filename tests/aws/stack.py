"""Makes what `lambdamr deploy` makes, by hand."""

import io
import json
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


def client(service, url):
    config = botocore.config.Config(
        s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=120
    )
    return botocore.session.get_session().create_client(
        service, region_name=REGION, endpoint_url=url, config=config
    )


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
    **variables,
):
    """A function with as many versions as the gateway has environments for it."""
    made = client("lambda", url)
    made.create_function(
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
    )
    for _ in range(environments):
        made.publish_version(FunctionName=name)


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
    """A destination on failure: puts on a queue what Lambda puts there (Lambda guide, 2026-01)."""
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
