"""What ROOT's compiler says goes to the terminal, or to a log: here it joins the error."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator

_COMPLAINT = re.compile(r"^.*\berror: (.+)$", re.MULTILINE)
_REDEFINED = re.compile("redefinition of '([^']+)'")
_MOST = 3  # complaints in a message; those that follow are mostly of the first


_one_at_a_time = threading.RLock()  # the terminal is that of the process


class CompilationError(RuntimeError):
    """C++ that does not compile; the message has what the compiler said.

    Attributes:
        redefined: the names of what is there already, if that is all that is wrong.
    """

    def __init__(self, complaints: Iterable[str]) -> None:
        said = list(complaints)
        super().__init__("; ".join(said[:_MOST]))
        names = [_REDEFINED.match(each) for each in said]
        self.redefined = [name[1] for name in names if name] if all(names) else []


@contextlib.contextmanager
def overheard() -> Iterator[None]:
    """Add to an exception what the compiler complained about; all of it is shown, as ever.

    Raises:
        CompilationError: in place of an exception that came with complaints.
    """
    sys.stderr.flush()
    with _one_at_a_time, tempfile.TemporaryFile() as file:
        terminal = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        except CompilationError:  # heard within
            raise
        except Exception as error:
            if isinstance(error.__cause__, CompilationError):
                raise
            complaints = dict.fromkeys(_COMPLAINT.findall(_read(file.fileno())))
            if not complaints:
                raise
            raise CompilationError(complaints) from error
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            with contextlib.suppress(OSError):  # nobody may read it
                os.write(2, _read(file.fileno()).encode(errors="replace"))


def _read(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")
