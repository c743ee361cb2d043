"""On AWS Lambda, emulated: the notebook of 2021, and what only a Lambda would get wrong."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import nbformat
import PyRDF
import pytest
import ROOT
from nbclient import NotebookClient
from same import assert_same

ROOT_OF_PROJECT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT_OF_PROJECT / "tests/aws"), str(ROOT_OF_PROJECT / "examples/dimuon")]

import analysis  # noqa: E402  # from the examples
import stack  # noqa: E402  # from the tests of lambdamr
from emulator import emulator  # noqa: E402
from generate import generate  # noqa: E402

pytestmark = pytest.mark.timeout(300)
BUCKET, FUNCTION = "lambdamr-pyrdf", "lambdamr-pyrdf-3008"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """An emulator with a stack named "lambdamr", as `lambdamr deploy` leaves it, with ROOT."""
    with (
        pytest.MonkeyPatch.context() as patch,
        emulator(tmp_path_factory.mktemp("emulator")) as url,
    ):
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "000000000000")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
        patch.setenv("AWS_DEFAULT_REGION", stack.REGION)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        stack.create_bucket(url, BUCKET)
        queue = stack.create_queue(url, "lambdamr-pyrdf")
        stack.create_function(
            url,
            FUNCTION,
            BUCKET,
            function_zip(),
            environments=1,
            memory=3008,
            timeout=120,
            LAMBDAMR_QUEUE_URL=queue,
            PYTHONPATH=":".join(sys.path),
        )
        stack.client("lambda", url).put_function_concurrency(
            FunctionName=FUNCTION, ReservedConcurrentExecutions=1
        )
        outputs = {"BucketName": BUCKET, "FunctionNames": FUNCTION, "QueueUrl": queue}
        template = {
            "Resources": {"Unused": {"Type": "AWS::SQS::Queue"}},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        }
        stack.client("cloudformation", url).create_stack(
            StackName="lambdamr", TemplateBody=json.dumps(template)
        )
        yield url


def function_zip():
    """lambdamr and PyRDF; ROOT comes with the image, which here is this environment."""
    packed = io.BytesIO(stack.function_zip())
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as file:
        folder = Path(PyRDF.__file__).parent
        for path in sorted(folder.glob("*.py")):
            file.write(path, Path("PyRDF") / path.name)
    return packed.getvalue()


@pytest.fixture
def aws(cloud):
    PyRDF.use("AWS", {"npartitions": 3})
    yield
    PyRDF.session._state.clear()


def test_the_notebook_of_2021(cloud, tmp_path):
    """With the file list changed and nothing else."""
    events = tmp_path / "events.root"
    generate(20_000, [events])
    notebook = nbformat.read(ROOT_OF_PROJECT / "examples/dimuon/dimuon.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert "PyRDF.use(\"AWS\", {'npartitions': '32'})" in code[0]
    notebook.cells.append(
        nbformat.v4.new_code_cell(
            'f = ROOT.TFile("h.root", "RECREATE"); f.WriteObject(h.GetValue(), "h"); f.Close()'
        )
    )
    NotebookClient(
        notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert (tmp_path / "dimuon_spectrum.pdf").read_bytes().startswith(b"%PDF")
    file = ROOT.TFile.Open(str(tmp_path / "h.root"))
    got = file.Get("h")
    want = analysis.book(ROOT.RDataFrame("Events", str(events)))[0].GetValue()
    contents = [[h.GetBinContent(i) for i in range(h.GetNcells())] for h in (got, want)]
    assert contents[0] == contents[1]
    assert got.GetEntries() == want.GetEntries() > 5000


def test_headers_libraries_and_files_that_a_lambda_has_never_seen(aws, tmp_path):
    (tmp_path / "include").mkdir()
    (tmp_path / "include/base.h").write_text(
        "#pragma once\ninline int base_of_lambda() { return 40; }"
    )
    (tmp_path / "include/top.h").write_text(
        '#include "base.h"\ninline int top_of_lambda(int i) { return base_of_lambda() + i; }'
    )
    PyRDF.include_headers("include")
    df = PyRDF.RDataFrame(10).Define("z", "top_of_lambda((int)rdfentry_)")
    assert df.Sum("z").GetValue() == 445


def test_cold_and_warm_lambdas_give_what_root_gives(aws, data):
    def book(df):
        cut = df.Filter("i % 4 != 0", "quarter")
        return cut.Histo1D(("h", "", 50, -10, 10), "x"), cut.Report(), cut.Take["int"]("i")

    arguments = "t", [str(data / f"{name}.root") for name in "abc"]
    for _ in range(2):
        for got, want in zip(
            book(PyRDF.RDataFrame(*arguments)), book(ROOT.RDataFrame(*arguments)), strict=True
        ):
            assert_same(got, want)
