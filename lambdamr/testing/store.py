"""A store that knows what was promised of its values: who reads them, and who discards them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lambdamr.wire import Answer, Buffer, Item, Ref, Task, frame_size


class SimulatedStore:
    """Frames by key, in this process.

    Args:
        inline: bytes; larger frames are kept.

    Attributes:
        broken: promises of a pool's contract that the driver did not keep, in words.
        last_got: the key that the driver asked for last: in a job that ends well, of the result.
    """

    def __init__(self, inline: int) -> None:
        self.inline = inline
        self.broken: list[str] = []
        self.last_got: str | None = None
        self._frames: dict[str, bytes] = {}
        self._readers: Counter[str] = Counter()
        self._owed: set[str] = set()  # keys of values that the driver has, and should discard
        self._discarded: set[str] = set()
        self._puts = 0

    # -- for the driver --------------------------------------------------------------------------

    def put(self, frame: list[Buffer]) -> Ref:
        """Keep a frame, inline if it is small."""
        size = frame_size(frame)
        if size <= self.inline:
            return Ref(size, data=b"".join(frame))
        self._puts += 1
        key = f"put-{self._puts}"
        self._frames[key] = b"".join(frame)
        return Ref(size, key=key)

    def get(self, ref: Ref) -> Buffer:
        """The frame of a ref."""
        if ref.data is not None:
            return ref.data
        assert ref.key is not None
        self.last_got = ref.key
        return self.read(ref.key)

    def discard(self, refs: Iterable[Ref]) -> None:
        """Forget these; from now on, to read one is an error."""
        for ref in refs:
            if ref.key is None:
                continue
            if self._readers[ref.key]:
                self.broken.append(f"{ref.key} was discarded while a task that is awaited reads it")
            if ref.key in self._discarded:
                self.broken.append(f"{ref.key} was discarded twice")
            self._discarded.add(ref.key)
            self._frames.pop(ref.key, None)

    def deliver(self, answer: Answer) -> Answer:
        """The driver gets this answer, and has to discard its values from now on."""
        self._owed.update(self.written(answer))
        return answer

    @contextmanager
    def reading(self, task: Task) -> Iterator[None]:
        """While a task runs, nobody may discard what it reads."""
        refs = [task.chunk, *(item.ref for item in task.items)]
        keys = [ref.key for ref in refs if ref is not None and ref.key is not None]
        self._readers.update(keys)
        self._owed.update(keys)
        try:
            yield
        finally:
            self._readers.subtract(keys)

    def left(self) -> tuple[str, ...]:
        """Keys that nobody discarded, though the driver had them, and they are not the result."""
        return tuple(sorted((self._owed & self._frames.keys()) - {self.last_got}))

    # -- for workers -----------------------------------------------------------------------------

    def read(self, key: str) -> Buffer:
        """The frame under a key."""
        if key in self._discarded:
            self.broken.append(f"{key} was read after it was discarded")
            raise AssertionError(self.broken[-1])
        return self._frames[key]

    def write(self, task: Task, lo: int, hi: int, frame: list[Buffer]) -> str:
        """Keep a frame."""
        key = f"{task.id}-{lo}-{hi}"
        self._frames[key] = b"".join(frame)
        return key

    def written(self, answer: Answer) -> dict[str, bytes]:
        """The frames of an answer that are kept here."""
        return {key: self._frames[key] for key in map(_key, answer.items) if key is not None}

    def take_back(self, answer: Answer) -> dict[str, bytes]:
        """Undo what a worker wrote that was stopped; what it would have written."""
        written = self.written(answer)
        for key in written:
            del self._frames[key]
        return written

    def write_again(self, written: dict[str, bytes]) -> None:
        """What comes late, or a second time: the same bytes under the same keys."""
        self._owed -= written.keys() & self._discarded  # what comes back then is nobody's
        self._frames.update(written)


def _key(item: Item) -> str | None:
    return None if item.ref is None else item.ref.key
