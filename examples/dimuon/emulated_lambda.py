"""AWS Lambda, emulated on this machine, with the stack that `lambdamr deploy` makes, and ROOT.

The emulator is ministack, set up by the tests of lambdamr, with their gateway before it, since it
runs a function once at a time. Its functions are processes of this machine, which find ROOT where
this program does; on AWS it comes with the image.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/aws"))

import stack  # from the tests of lambdamr
from emulator import emulator
from gateway import Gateway

BUCKET, FUNCTION = "lambdamr-pyrdf", "lambdamr-pyrdf-3008"


@contextlib.contextmanager
def emulated_lambda(folder: Path, environments: int = 1) -> Iterator[str]:
    """The URL of it; AWS_ENDPOINT_URL and credentials are set meanwhile.

    Args:
        folder: for what the emulator writes.
        environments: how many functions run at once.
    """
    with Gateway() as gateway, emulator(folder) as gateway.upstream:
        gateway.free[FUNCTION] = [str(number) for number in range(environments, 0, -1)]
        variables = {
            "AWS_ENDPOINT_URL": gateway.url,
            "AWS_ACCESS_KEY_ID": "000000000000",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-emulator",
            "AWS_DEFAULT_REGION": stack.REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            _deploy(gateway.upstream, environments)
            yield gateway.url
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def _deploy(url: str, environments: int) -> None:
    stack.create_bucket(url, BUCKET)
    queue = stack.create_queue(url, "lambdamr-pyrdf")
    stack.create_function(
        url,
        FUNCTION,
        BUCKET,
        _function_zip(),
        environments=environments,
        memory=3008,
        timeout=300,
        LAMBDAMR_QUEUE_URL=queue,
        PYTHONPATH=":".join(sys.path),
    )
    stack.client("lambda", url).put_function_concurrency(
        FunctionName=FUNCTION, ReservedConcurrentExecutions=environments
    )
    outputs = {"BucketName": BUCKET, "FunctionNames": FUNCTION, "QueueUrl": queue}
    template = {
        "Resources": {"Unused": {"Type": "AWS::SQS::Queue"}},
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }
    stack.client("cloudformation", url).create_stack(
        StackName="lambdamr", TemplateBody=json.dumps(template)
    )


def _function_zip() -> bytes:
    """lambdamr and PyRDF."""
    import PyRDF

    packed = io.BytesIO(stack.function_zip())
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(Path(PyRDF.__file__).parent.iterdir()):
            if path.suffix in (".py", ".h", ".cpp"):  # no library, which looks for ROOT beside it
                file.write(path, Path("PyRDF") / path.name)
    return packed.getvalue()
