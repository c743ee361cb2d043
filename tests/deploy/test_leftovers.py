"""`lambdamr jobs` and `clean`: what crashed drivers left."""

from datetime import timedelta

import pytest

from lambdamr.deploy import bucket, commands


@pytest.fixture
def place(aws, command, outputs):
    """A bucket with what two jobs left, and a function that must stay."""
    command("deploy")
    name = outputs()["BucketName"]
    for number in range(3):
        aws.s3.put_object(Bucket=name, Key=f"jobs/first/{number}", Body=bytes(1000))
    aws.s3.put_object(Bucket=name, Key="jobs/second/1", Body=bytes(2_000_000))
    aws.s3.create_multipart_upload(Bucket=name, Key="jobs/second/2")
    aws.s3.put_object(Bucket=name, Key="functions/f", Body=b"f")
    yield name
    command("destroy", "--yes")


def keys(aws, name, prefix="jobs/"):
    found = aws.s3.list_objects_v2(Bucket=name, Prefix=prefix)
    return [each["Key"] for each in found.get("Contents", ())]


def test_jobs_lists_what_they_have(place, command):
    said = command("jobs")
    assert "first 3 3.0 kB" in said
    assert "second 2 2.0 MB" in said
    assert "2 jobs, 2.0 MB" in said


def test_clean_leaves_what_is_young(place, aws, command):
    assert "nothing is older than 1d" in command("clean")
    assert len(keys(aws, place)) == 4


def test_clean_removes_what_is_old(place, aws, command):
    said = command("clean", "--older-than", "0s", "--dry-run")
    assert "would remove first: 3 objects, 3.0 kB" in said
    assert len(keys(aws, place)) == 4
    said = command("clean", "--older-than", "0s")
    assert "removed second: 2 objects, 2.0 MB" in said
    assert keys(aws, place) == []
    assert aws.s3.list_multipart_uploads(Bucket=place).get("Uploads", []) == []
    assert keys(aws, place, "functions/") == ["functions/f"]
    assert "no job has anything" in command("jobs")


def test_clean_removes_the_job_that_is_named(place, aws, command):
    command("clean", "first")
    assert keys(aws, place) == ["jobs/second/1"]
    assert "no job fir is there" in command("clean", "fir", code=2)


def test_clean_everything_empties_the_bucket(place, aws, command):
    assert "pass --yes" in command("clean", "--everything", code=2)
    assert "removed 7 objects" in command("clean", "--everything", "--yes")
    assert keys(aws, place, "") == []


def test_more_objects_than_fit_into_one_request(place, aws, command, monkeypatch):
    monkeypatch.setattr(bucket, "_BATCH", 2)
    command("clean", "first")
    assert keys(aws, place) == ["jobs/second/1"]


def test_what_is_no_duration(no_aws, command):
    said = command("clean", "--older-than", "yesterday", code=2)
    assert "a number and a unit, as 90m, 6h or 2d, not 'yesterday'" in said
    assert "longer than AWS exists" in command("clean", "--older-than", "999999999999d", code=2)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=5), "5 s"),
        (timedelta(minutes=90), "1 h"),
        (timedelta(minutes=59), "59 min"),
        (timedelta(days=3, hours=5), "3 d"),
        (timedelta(seconds=-2), "0 s"),  # clocks differ
    ],
)
def test_ages_are_short(age, words):
    assert commands._age(age) == words
