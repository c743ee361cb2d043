"""The image with ROOT, built for real, started as Lambda starts it."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import analysis  # from the examples
import PyRDF
import pytest
import ROOT
import stack  # from the tests of aws
from building import ROOT_OF_PROJECT, build_image, buildah, in_image
from emulator import emulator
from gateway import Gateway
from generate import generate
from interface_emulator import binary, serving

import lambdamr

pytestmark = pytest.mark.timeout(600)
BUCKET, FUNCTION = "lambdamr-image", "lambdamr-image-1769"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "000000000000",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
    "AWS_DEFAULT_REGION": stack.REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def started(image, seen, folder, without="", **variables):
    """The URL of the image's handler, behind AWS's runtime interface emulator.

    Args:
        without: a folder of which nothing is there.
    """
    program = seen / "aws-lambda-rie"
    config = json.loads(buildah("inspect", "--type=image", image.name))["OCIv1"]["config"]
    runtime = [*config["Entrypoint"], *config["Cmd"]]
    variables = {
        **CREDENTIALS,
        "AWS_REGION": stack.REGION,
        "AWS_LAMBDA_FUNCTION_NAME": FUNCTION,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "300",
        **variables,
    }
    return serving(
        lambda addresses: in_image(image, seen, str(program), *addresses, *runtime, **variables),
        folder,
        env=os.environ | {"RUN_IMAGE_WITHOUT": without},
    )


@pytest.fixture(scope="module")
def seen():
    """A folder that the image sees under the same name; AWS's emulator is there."""
    folder = Path(tempfile.mkdtemp(prefix="lambdamr-seen-", dir="/tmp"))
    folder.chmod(0o755)
    shutil.copy(binary(), folder / "aws-lambda-rie")
    generate(10_000, [folder / "events.root"])
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """An emulator with a bucket, and the gateway to it, which runs the image as a function."""
    with pytest.MonkeyPatch.context() as patch, Gateway() as gateway:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with emulator(tmp_path_factory.mktemp("emulator")) as gateway.upstream:
            stack.create_bucket(gateway.url, BUCKET)
            gateway.free[FUNCTION] = ["1"]  # one invocation at a time
            yield gateway


@contextlib.contextmanager
def function_of(aws, image, seen, folder, without=""):
    """An executor whose function is the image."""
    variables = {"AWS_ENDPOINT_URL": aws.url, "LAMBDAMR_BUCKET": BUCKET}
    with (
        started(image, seen, folder, without, **variables) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setitem(aws.elsewhere, FUNCTION, url)
        yield lambdamr.LambdaExecutor(
            functions=[FUNCTION], bucket=BUCKET, endpoint_url=aws.url, concurrency=1, warm=1
        )


@pytest.fixture(scope="module")
def executor(aws, image, seen, tmp_path_factory):
    with function_of(aws, image, seen, tmp_path_factory.mktemp("function")) as executor:
        yield executor


def test_it_wakes_before_a_job_needs_it(executor):
    woken = [asyncio.run(executor.wake()) for _ in range(2)]
    assert [(each.environments, each.cold, each.error) for each in woken] == [
        (1, 1, None),
        (1, 0, None),
    ]


def test_the_dimuon_spectrum_has_the_bits_of_plain_root(executor, seen):
    path = str(seen / "events.root")
    want, wanted_report = analysis.book(ROOT.RDataFrame("Events", path))
    for npartitions in (1, 3):
        frame = PyRDF.RDataFrame("Events", path, executor=executor, npartitions=npartitions)
        got, report = analysis.book(frame)
        assert contents(got) == contents(want)
        assert [(cut.GetName(), cut.GetPass()) for cut in report.GetValue()] == [
            (cut.GetName(), cut.GetPass()) for cut in wanted_report.GetValue()
        ]
    assert want.GetEntries() > 4000
    # Nobody imported ROOT there, not even to compare versions: it takes a second.
    assert not lambdamr.map_reduce(lambda _: "ROOT" in sys.modules, max, [1], executor=executor)


def contents(histogram):
    value = histogram.GetValue()
    bins = [value.GetBinContent(i) for i in range(value.GetNcells())]
    return bins, value.GetEntries(), value.GetMean(), value.GetStdDev()


def test_code_and_headers_of_the_user_compile_there(executor):
    PyRDF.DistributeCppCode("int three_of_an_image() { return 3; }")
    frame = PyRDF.RDataFrame(100, executor=executor, npartitions=2)
    assert frame.Define("x", "three_of_an_image()").Sum("x").GetValue() == 300


def test_it_is_not_root_and_writes_to_tmp_only(executor):
    def look(_):
        import os
        import tempfile

        refused = []
        for folder in ("/", "/opt/worker", "/usr", "/var", "/home", "/dev"):
            try:
                with open(f"{folder}/lambdamr-was-here", "w"):
                    pass
            except OSError as error:
                refused.append((folder, error.errno))
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
        return [(os.getuid(), os.getgid(), os.getgroups(), len(refused), tempfile.gettempdir())]

    [(user, group, groups, refused, temporary)] = lambdamr.map_reduce(
        look, list.__add__, [1], executor=executor
    )
    assert user != 0
    assert group != 0
    assert 0 not in groups
    assert refused == 6
    assert temporary.startswith("/tmp")


PROGRAMS = """
    gcc cc cpp cc1 cc1plus collect2 as ld make patch rootcling root.exe perl openssl
    apt apt-get apt-cache dpkg dpkg-query dpkg-deb pip pip3 mount umount su login
"""
MODULES = "pip setuptools wheel ensurepip test tkinter idlelib lib2to3 pytest numpy.f2py"
RUBBISH = """
    **/tests/* **/test/*.py **/*.a **/*.o **/*.pyi **/*.pyx **/*.deb **/*.whl **/pip.conf **/.cache
    etc/apt/* tmp/* root/.* var/cache/* var/log/* var/lib/apt/* var/lib/dpkg/info/*
    usr/share/doc/* usr/share/man/* usr/share/info/* usr/share/locale/* usr/src/*
    opt/worker/ROOT/tutorials opt/worker/ROOT/lib/*RooFit* opt/worker/ROOT/lib/*Gui*
    opt/worker/ROOT/lib/*Minuit*
"""


def test_nothing_is_in_it_that_a_worker_does_not_need(image, seen):
    """And nothing of the machine that built it."""
    files = [path for path in image.root.rglob("*") if path.is_symlink() or not path.is_dir()]
    assert [path for path in files if path.name in PROGRAMS.split()] == []
    assert [path for pattern in RUBBISH.split() for path in image.root.glob(pattern)] == []
    looking = f"""
from importlib.util import find_spec
print([name for name in {MODULES.split()} if find_spec(name)])
"""
    command = in_image(image, seen, "python3", "-P", "-c", looking)
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"
    assert sum(path.lstat().st_size for path in files) < 650e6
    inspected = buildah("inspect", "--type=image", image.name)
    for name, value in os.environ.items():
        if name.startswith("PIP_") and "://" in value:
            assert value not in inspected


def test_a_library_with_three_names_is_there_once(image):
    libraries = (image.root / "opt/worker/ROOT/lib").glob("lib*.so*")
    files = [path for path in libraries if not path.is_symlink() and path.stat().st_size > 10_000]
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in files}) == len(files) > 20


def test_what_it_says_is_what_it_is(image):
    config = json.loads(buildah("inspect", "--type=image", image.name))["OCIv1"]["config"]
    assert config["User"] == "65534:65534"
    assert config["Entrypoint"] == ["python3", "-P", "-m", "awslambdaric"]
    assert config["Cmd"] == ["worker.handler"]


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (
            "/usr/include/c++",
            "error: the handler of the image does not start: ImportError: the C and C++ headers",
        ),
        (
            "/usr/include",
            "error: the handler of the image does not start: ImportError: the C and C++ headers",
        ),
        ("/opt/worker/lambdamr", "error: the handler of the image does not start: ModuleNotFound"),
    ],
)
def test_a_build_says_in_one_line_what_is_missing(image, seen, folder, said):
    """The check at its end, run in an image without this folder."""
    shutil.copy(ROOT_OF_PROJECT / "lambdamr/runtimes/image/check.py", seen)
    command = ["python3", "-P", str(seen / "check.py"), "image"]
    done = subprocess.run(
        in_image(image, seen, *command, PYTHON="3.11", ROOT="6"),
        env=os.environ | {"RUN_IMAGE_WITHOUT": folder},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


def test_a_base_with_another_python_is_refused(base):
    done = build_image("--root", "", "--python", "3.12")
    assert done.returncode == 2
    assert "error: the base has Python 3.11, and the image is to be of 3.12" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/usr/include/c++", "the C and C++ headers are missing"),
        ("/usr/include", "the C and C++ headers are missing"),
        ("/opt/worker/lambdamr", "No module named 'lambdamr"),
    ],
)
def test_a_job_says_in_one_line_what_its_image_is_without(aws, image, seen, tmp_path, folder, said):
    with (
        function_of(aws, image, seen, tmp_path, without=folder) as executor,
        pytest.raises(lambdamr.BrokenExecutorError) as caught,
    ):
        lambdamr.map_reduce(sum, int.__add__, [1], executor=executor)
    message = str(caught.value)
    assert said in message
    assert "What is deployed does not start. Run `lambdamr deploy`" in message
    assert len(message.splitlines()) == 1
