"""Tracebacks that travel: taken apart in the worker, shown in the driver as if it were local.

The worker may not have the source (a notebook's cell, a script on a laptop); the driver does. So
only places travel, and the driver looks up the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, TypeAlias

Block: TypeAlias = "tuple[str, tuple[tuple[Any, ...], ...], str]"
"""An exception: what says how it led to the block before, its places, and its own lines."""

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
_OURS = __file__.removesuffix("travel/tracebacks.py")
_LONGEST = 2000  # frames of one traceback that travel; twice what Python's recursion limit allows


def code_from(
    filename: str, rebuild: Callable[..., CodeType], arguments: tuple[Any, ...]
) -> CodeType:
    """Code that is unpickled, with its file: cloudpickle leaves the name out, since 3.1.3."""
    return rebuild(*arguments).replace(co_filename=filename)


def take_apart(error: BaseException) -> tuple[Block, ...]:
    """The traceback of an exception and of those that led to it, without lambdamr's own frames."""
    import traceback  # here: a worker that starts has no time for it

    blocks: list[Block] = []
    seen: set[int] = set()
    link = ""
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = [place for place in _places(current) if not place[0].startswith(_OURS)]
        if len(frames) > _LONGEST:
            frames[_LONGEST // 2 : -_LONGEST // 2] = []
        # Without its traceback: that leaves its own lines, and the members of a group.
        own_lines = traceback.format_exception(type(current), current, None, chain=False)
        blocks.append((link, tuple(frames), "".join(own_lines)))
        if current.__cause__ is not None or current.__suppress_context__:
            link, current = _CAUSE, current.__cause__
        else:
            link, current = _CONTEXT, current.__context__
    return tuple(blocks)


def put_together(blocks: tuple[Block, ...]) -> str:
    """The traceback as text, with the source lines that this machine knows."""
    import traceback

    text = ""
    for link, places, own_lines in reversed(blocks):
        if places:
            frames = traceback.StackSummary.from_list(
                traceback.FrameSummary(
                    filename, line, name, end_lineno=end_line, colno=column, end_colno=end_column
                )
                for filename, line, name, (end_line, column, end_column) in places
            )
            text += "Traceback (most recent call last):\n" + "".join(frames.format())
        text += own_lines + link
    return text


def _places(error: BaseException) -> Iterator[tuple[Any, ...]]:
    """File, line, function, and where the failing expression ends and its columns, if known."""
    tb = error.__traceback__
    while tb is not None:
        code = tb.tb_frame.f_code
        positions = list(code.co_positions())[tb.tb_lasti // 2]
        yield code.co_filename, tb.tb_lineno, code.co_name, positions[1:]
        tb = tb.tb_next
