"""Every error a user can meet, under one root; each says what happened and what to do next."""

from __future__ import annotations


class LambdamrError(Exception):
    """The root of all errors that lambdamr raises on its own account."""


class InputError(LambdamrError, ValueError):
    """An argument cannot be used; raised at the call, before anything is sent."""


class InputTypeError(InputError, TypeError):
    """An argument is of a kind that cannot be used; raised at the call."""


class EmptyDataError(InputError, TypeError):
    """There is no partition and no ``initial``: `functools.reduce` raises TypeError here too."""


class UnpicklableError(InputTypeError):
    """The mapper, the reducer or the data hold something that cannot be sent to a worker."""


class PartitionError(LambdamrError):
    """A partition failed for good. The exception of the worker, if any, is ``__cause__``.

    Attributes:
        lo, hi: the failure is of the partitions ``lo <= i < hi`` (one partition, unless it was in
            the reducer, or in a task that could not be made smaller).
        attempts: how often it was tried.
        remote_traceback: the traceback of the worker as text, or "" if there is none.
    """

    def __init__(
        self, message: str, lo: int, hi: int, attempts: int, remote_traceback: str = ""
    ) -> None:
        super().__init__(message)
        self.lo, self.hi, self.attempts = lo, hi, attempts
        self.remote_traceback = remote_traceback


class MapperError(PartitionError):
    """The mapper raised."""


class ReducerError(PartitionError):
    """The reducer raised."""


class WorkerLostError(PartitionError):
    """Workers died on this partition again and again (signal, exit, lost connection)."""


class OutOfMemoryError(PartitionError):
    """This partition needs more memory than a worker may have."""


class PartitionTimeoutError(PartitionError):
    """This partition took longer than ``timeout``, again and again."""


class ResultError(PartitionError):
    """What the mapper or the reducer returned cannot be sent back (it does not pickle)."""


class BrokenExecutorError(LambdamrError):
    """The executor cannot run anything: wrong version, missing function, no permission."""


class ThrottledError(LambdamrError):
    """The engine refused every task for longer than the policy's ``patience``."""


class CostLimitError(LambdamrError):
    """``max_cost`` would have been passed; what was finished is in the checkpoint, if any."""


class CheckpointError(LambdamrError):
    """A checkpoint cannot be used: of another job, not authentic, or in use by another driver."""


class IntegrityError(LambdamrError):
    """Bytes that arrived are not what was written: torn, tampered with, or of another version."""


class DeployError(LambdamrError):
    """The AWS stack could not be put up, changed, looked at or taken down."""
