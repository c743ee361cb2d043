"""Secrets: by reference into the worker, for the time of a task; and nowhere else."""

import operator
import os

import pytest
import stack

import lambdamr

VALUE = "s3cr3t-of-this-test"


@pytest.fixture
def stored(cloud):
    secrets = stack.client("secretsmanager", cloud.url)
    secrets.create_secret(Name="lambdamr/token", SecretString=VALUE)
    secrets.create_secret(Name="lambdamr/proxy", SecretBinary=b"\x00\xff certificate")
    ssm = stack.client("ssm", cloud.url)
    ssm.put_parameter(Name="/lambdamr/token", Value=VALUE, Type="SecureString")
    yield
    for name in ("lambdamr/token", "lambdamr/proxy"):
        secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    ssm.delete_parameter(Name="/lambdamr/token")


def of(cloud, **references):
    return lambdamr.LambdaExecutor(
        functions=[cloud.function],
        bucket=cloud.bucket,
        endpoint_url=cloud.url,
        concurrency=1,
        secrets=references,
    )


def in_worker(cloud, mapper, **references):
    return lambdamr.map_reduce(mapper, operator.add, [1], executor=of(cloud, **references))


def test_a_mapper_finds_its_secrets_and_the_next_job_does_not(cloud, stored):
    def mapper(part):
        names = "ONE", "TWO", "PROXY"
        return [os.environ.get(name) for name in names]

    def read(part):
        path = os.environ["PROXY"]
        with open(path, "rb") as file:
            return [path, file.read(), oct(os.stat(path).st_mode)[-3:]]

    one, two, proxy = in_worker(
        cloud,
        mapper,
        ONE="secretsmanager:lambdamr/token",
        TWO="ssm:/lambdamr/token",
        PROXY="file:secretsmanager:lambdamr/proxy",
    )
    assert one == two == VALUE
    assert proxy not in (None, VALUE)
    path, content, mode = in_worker(cloud, read, PROXY="file:secretsmanager:lambdamr/proxy")
    assert (content, mode) == (b"\x00\xff certificate", "600")
    assert in_worker(cloud, mapper) == [None, None, None]
    assert in_worker(cloud, lambda part: os.path.exists(path)) is False


def test_no_secret_and_no_credential_is_in_a_request_or_a_log(cloud, stored):
    sent = []

    def note(when, service, request, body):
        if when == "before" and service == "lambda":
            sent.append(body)

    cloud.gateway.faults.append(note)
    in_worker(cloud, lambda part: part[0], TOKEN="secretsmanager:lambdamr/token")
    assert sent
    assert b"lambdamr/token" in sent[0]
    for body in sent:
        assert VALUE.encode() not in body
        assert b"secret-of-the-test" not in body
    text = cloud.log.read_text()
    assert '"lambdamr": "task"' in text
    assert VALUE not in text
    assert "secret-of-the-test" not in text


def test_a_secret_that_is_not_there_is_named(cloud):
    with pytest.raises(lambdamr.BrokenExecutorError, match="ResourceNotFoundException"):
        in_worker(cloud, lambda part: 1, TOKEN="secretsmanager:lambdamr/none")
    with pytest.raises(lambdamr.BrokenExecutorError, match="ParameterNotFound"):
        in_worker(cloud, lambda part: 1, TOKEN="ssm:/lambdamr/none")


@pytest.mark.parametrize("reference", [VALUE, "", "ssm:", "file:", "vault:token", 7, None])
def test_a_secret_itself_is_refused_and_not_shown(reference):
    with pytest.raises(lambdamr.InputError, match="never the secret itself") as caught:
        lambdamr.LambdaExecutor(secrets={"TOKEN": reference})
    assert VALUE not in str(caught.value)
