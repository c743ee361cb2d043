"""Every Python example of README.md and of the pages in docs/ runs, as it stands.

The blocks of a page are one program. What they take for granted (some lines, some files) is in
`GIVEN`. What else a page needs is in the page, or the example is not one.
"""

import ast
import asyncio
import inspect
import logging
import operator
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import lambdamr

HOME = Path(__file__).parents[1]
ELSEWHERE = {"write-an-executor.md"}  # tests/contract/test_documented.py puts it through the suite
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]


def blocks(page):
    """The Python blocks of a page: where each starts, and its text."""
    text = page.read_text()
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text[: match.start()].count("\n") + 1, match[1]


@pytest.fixture
def given(tmp_path, monkeypatch):
    """What examples take for granted, by page."""
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / f"part{i}" for i in range(3)]
    for path in paths:
        path.write_text("1 2 3")

    def mapper(partition):
        return sum(partition)

    def read_and_sum(path):
        return sum(map(int, path.read_text().split()))

    return {
        "README.md": {
            "lines": ["a b a"] * 10,
            "collections": __import__("collections"),
            "paths": paths,
            "read_and_sum": read_and_sum,
            "add": operator.add,
        },
        # No stack is here: the executors are made, and the calls are held against the signature.
        "lambda.md": {
            "lambdamr": SimpleNamespace(
                LambdaExecutor=lambdamr.LambdaExecutor,
                map_reduce=inspect.signature(lambdamr.map_reduce).bind,
            ),
            "mapper": mapper,
            "reducer": max,
            "data": range(10),
        },
        "report.md": {
            "lambdamr": lambdamr,
            "mapper": mapper,
            "reducer": max,
            "data": range(10),
        },
    }


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in ELSEWHERE and list(blocks(page))],
    ids=lambda page: page.name,
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Dask's cluster
def test_the_examples_of_a_page_run(page, given, request, monkeypatch):
    monkeypatch.setenv("LAMBDAMR_CHECKPOINT_KEY", "of a test")
    names = {"__name__": "__main__", **given.get(page.name, {})}
    if "client" in page.read_text():
        names["client"] = request.getfixturevalue("client")

    async def run():
        for line, text in blocks(page):
            # As in a notebook: awaits at the top level are fine.
            code = compile("\n" * line + text, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if inspect.isawaitable(result):
                await result

    asyncio.run(run())
    assert logging.getLogger("lambdamr.job").handlers == []


@pytest.fixture
def client():
    """A Dask cluster of one worker."""
    from distributed import Client

    with Client(n_workers=1, threads_per_worker=1, dashboard_address=":0") as client:
        yield client


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_error_has_its_line_in_the_troubleshooting():
    page = (HOME / "docs" / "errors.md").read_text()
    errors = [name for name in lambdamr.__all__ if name.endswith("Error")]
    assert len(errors) > 10
    for name in errors:
        if name not in ("LambdamrError", "PartitionError"):
            assert re.search(rf"^\| .*`{name}`", page, re.MULTILINE), f"{name} has no line"
