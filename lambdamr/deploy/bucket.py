"""The bucket of a stack: the zip, what jobs left there, and emptying it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lambdamr.deploy.package import Package
from lambdamr.deploy.session import Session, code_of
from lambdamr.errors import DeployError
from lambdamr.runtimes.s3 import JOBS

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

_CODE = "code/"
_BATCH = 1000  # keys of one DeleteObjects (S3 API)


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a job has in the bucket.

    Attributes:
        job: its id.
        objects, size: how many, and their bytes; uploads that were never finished count as one
            object of no bytes.
        newest: when it wrote last.
    """

    job: str
    objects: int
    size: int
    newest: datetime


def upload(session: Session, bucket: str, package: Package) -> bool:
    """Put the zip there; False if it is there already."""
    try:
        session.s3.head_object(Bucket=bucket, Key=package.key)
    except ClientError as error:
        if code_of(error) not in {"404", "NoSuchKey", "NotFound"}:
            raise
    else:
        return False
    with package.path.open("rb") as body:
        session.s3.put_object(Bucket=bucket, Key=package.key, Body=body)
    return True


def prune(session: Session, bucket: str, key: str) -> None:
    """Remove the zips of earlier deployments."""
    old = [found for found, _, _ in _objects(session, bucket, _CODE) if found != key]
    _delete(session, bucket, ({"Key": found} for found in old))


def leftovers(session: Session, bucket: str) -> list[Leftover]:
    """What jobs have in the bucket, the oldest first: of jobs that run, and that crashed."""
    found: dict[str, list[tuple[int, datetime]]] = {}
    for key, size, when in _objects(session, bucket, JOBS):
        found.setdefault(_job(key), []).append((size, when))
    for key, _, when in _uploads(session, bucket, JOBS):
        found.setdefault(_job(key), []).append((0, when))
    jobs = [
        Leftover(job, len(parts), sum(size for size, _ in parts), max(when for _, when in parts))
        for job, parts in found.items()
    ]
    return sorted(jobs, key=lambda job: job.newest)


def clean(session: Session, bucket: str, job: str) -> int:
    """Remove what a job left; how many objects that was."""
    return _remove(session, bucket, f"{JOBS}{job}/")


def empty(session: Session, bucket: str, told: Callable[[int], None] = lambda _: None) -> int:
    """Remove everything in it: objects, their versions, unfinished uploads; how many.

    Args:
        told: gets the number so far, from time to time.
    """
    try:
        return _remove(session, bucket, "", told)
    except ClientError as error:
        if code_of(error) == "NoSuchBucket":
            return 0
        raise


def _remove(
    session: Session, bucket: str, prefix: str, told: Callable[[int], None] = lambda _: None
) -> int:
    uploads = list(_uploads(session, bucket, prefix))
    for key, upload_id, _ in uploads:
        session.s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    return len(uploads) + _delete(session, bucket, _versions(session, bucket, prefix), told)


def _job(key: str) -> str:
    return key.removeprefix(JOBS).partition("/")[0]


def _objects(session: Session, bucket: str, prefix: str) -> Iterator[tuple[str, int, datetime]]:
    pages = session.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for found in page.get("Contents", ()):
            yield found["Key"], found["Size"], found["LastModified"]


def _versions(session: Session, bucket: str, prefix: str) -> Iterator[ObjectIdentifierTypeDef]:
    pages = session.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            yield {"Key": found["Key"], "VersionId": found["VersionId"]}


def _uploads(session: Session, bucket: str, prefix: str) -> Iterator[tuple[str, str, datetime]]:
    pages = session.s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, Prefix=prefix
    )
    for page in pages:
        for found in page.get("Uploads", ()):
            yield found["Key"], found["UploadId"], found["Initiated"]


def _delete(
    session: Session,
    bucket: str,
    found: Iterable[ObjectIdentifierTypeDef],
    told: Callable[[int], None] = lambda _: None,
) -> int:
    done = 0
    objects = iter(found)
    while batch := list(islice(objects, _BATCH)):
        answer = session.s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        for error in answer.get("Errors", ()):
            raise DeployError(
                f"{error.get('Key')} in the bucket {bucket} cannot be removed: "
                f"{error.get('Message')} ({error.get('Code')})"
            )
        done += len(batch)
        told(done)
    return done
