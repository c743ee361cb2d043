"""A checkpoint on S3 keeps the promise of the one in a file."""

import operator

import pytest
import stack

import lambdamr
from lambdamr import events
from lambdamr.executors import aws_pool, aws_prices

URI = "s3://{bucket}/kept/by me"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("LAMBDAMR_CHECKPOINT_KEY", "of a test")


@pytest.fixture
def uri(cloud, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    yield URI.format(bucket=cloud.bucket)
    client = stack.client("s3", cloud.url)
    for name in stack.keys(cloud.url, cloud.bucket, "kept/"):
        client.delete_object(Bucket=cloud.bucket, Key=name)


@pytest.fixture
def lambdas(cloud):
    return lambdamr.LambdaExecutor(
        functions=[cloud.function], bucket=cloud.bucket, endpoint_url=cloud.url, concurrency=2
    )


def run(uri, mapper, executor="inline", n=8, **options):
    """The value, and how many partitions came from the checkpoint."""
    seen = []
    value = lambdamr.map_reduce(
        mapper,
        operator.add,
        lambdamr.Partitions(range(n)),
        executor=executor,
        checkpoint=uri,
        observers=[seen.append],
        retry=lambdamr.RetryPolicy(attempts=1),
        **options,
    )
    return value, sum(e.partitions for e in seen if isinstance(e, events.Resumed))


def until(path):
    """A mapper that fails at partition 5 while there is no such file: it stays the same mapper."""

    def mapper(partition, path=str(path)):
        import os

        if partition == 5 and not os.path.exists(path):
            raise ConnectionError("not yet")
        return [partition] * 3

    return mapper


def test_a_job_that_failed_goes_on_where_it_stopped(uri, tmp_path):
    mapper = until(tmp_path / "now")
    with pytest.raises(lambdamr.MapperError):
        run(uri, mapper)
    (tmp_path / "now").touch()
    value, resumed = run(uri, mapper)
    assert value == [i for i in range(8) for _ in range(3)]
    assert resumed == 5
    assert run(uri, mapper) == (value, 8)


def test_another_executor_goes_on_with_it_as_whom_it_runs(uri, lambdas, tmp_path, monkeypatch):
    mapper = until(tmp_path / "now")
    with pytest.raises(lambdamr.MapperError):
        run(uri, mapper)
    (tmp_path / "now").touch()
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # the executor knows where
    value, resumed = run(uri, mapper, lambdas)
    assert value == [i for i in range(8) for _ in range(3)]
    assert resumed == 5


def test_what_was_done_within_the_cap_is_not_paid_for_again(uri, cloud, monkeypatch):
    monkeypatch.setattr(aws_pool.LambdaPool, "latency", 0.0005)  # tasks of half a second

    def mapper(partition):
        import time

        time.sleep(0.2)
        return [partition]

    def on(limit):
        dollar = aws_prices.Prices({"x86_64": 0, "arm64": 0}, request=1.0, put=0, get=0)
        executor = lambdamr.LambdaExecutor(
            functions=[cloud.function],
            bucket=cloud.bucket,
            endpoint_url=cloud.url,
            concurrency=1,
            prices=dollar,
        )
        return run(uri, mapper, executor, max_cost=limit)

    with pytest.raises(lambdamr.CostLimitError, match="a second call goes on"):
        on(1.5)
    assert cloud.gateway.invocations[cloud.function] == 1
    value, resumed = on(100)
    assert value == list(range(8))
    assert resumed > 0


def test_what_was_changed_or_swapped_is_computed_again(uri, cloud, tmp_path):
    mapper = until(tmp_path)
    value, _ = run(uri, mapper)
    client = stack.client("s3", cloud.url)
    names = stack.keys(cloud.url, cloud.bucket, "kept/by me/")
    place = {"Bucket": cloud.bucket, "Key": next(name for name in names if name.endswith("0-8"))}
    body = client.get_object(**place)["Body"].read()
    client.put_object(**place, Body=body[:-1] + bytes([body[-1] ^ 1]))
    assert run(uri, mapper) == (value, 0)
    client.put_object(Bucket=cloud.bucket, Key="kept/by me/0-4", Body=body)  # another's name
    client.delete_object(**place)
    assert run(uri, mapper) == (value, 0)


def test_another_job_is_a_clear_error(uri, tmp_path):
    run(uri, until(tmp_path))
    with pytest.raises(lambdamr.CheckpointError, match=r"another job: it differs in .*fan_in"):
        run(uri, until(tmp_path), fan_in=3)


def test_another_user_is_a_clear_error(uri, tmp_path, monkeypatch):
    run(uri, until(tmp_path))
    monkeypatch.setenv("LAMBDAMR_CHECKPOINT_KEY", "of somebody else")
    with pytest.raises(lambdamr.CheckpointError, match="cannot be authenticated"):
        run(uri, until(tmp_path))


def test_a_bucket_that_is_not_there_is_a_clear_error(uri, tmp_path):
    with pytest.raises(lambdamr.CheckpointError, match="no-such-bucket"):
        run("s3://no-such-bucket/kept", until(tmp_path))
