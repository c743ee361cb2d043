"""The executor that the documentation shows is a whole one."""

import importlib.util
import re
import sys
import tempfile
from pathlib import Path

import pytest
from suite import ExecutorContract

import lambdamr

PAGE = Path(__file__).parents[2] / "docs" / "write-an-executor.md"


@pytest.fixture(scope="module")
def subprocess_executor(tmp_path_factory):
    """The page's module, saved where the page says."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    path = tmp_path_factory.mktemp("documented") / "subprocess_executor.py"
    path.write_text(program)
    spec = importlib.util.spec_from_file_location("subprocess_executor", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["subprocess_executor"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["subprocess_executor"]


# It starts a Python for each task: of the suite, that which an executor can get wrong.
ESSENTIAL = """
    values_around_the_inline_boundary_come_back
    data_of_20_mb_reaches_the_workers
    slow_partitions_too_make_the_shape_of_the_tree
    an_exception_of_the_mapper_says_all_there_is_to_know
    a_mapper_may_print_as_much_as_it_wants
    a_worker_that_dies_once_costs_nothing_but_time
    a_worker_that_dies_again_and_again_is_named
    values_of_a_worker_that_died_are_not_lost
    a_mapper_that_hangs_once_costs_nothing_but_time
    three_threads_use_it_at_once
    two_jobs_share_an_event_loop
    a_job_can_be_cancelled_while_the_mapper_runs
    a_checkpoint_made_here_is_finished_inline
    an_executor_opens_pools
    a_pool_keeps_what_is_put
    a_task_stops_after_its_budget_and_answers_with_what_it_has
    a_fold_that_is_done_twice_makes_the_same_twice
    a_fold_takes_what_was_put
    what_came_before_a_failure_is_in_the_answer
    more_tasks_than_capacity_all_end
    cancelling_a_task_frees_its_place
    a_task_whose_worker_dies_is_lost
    the_error_of_a_pool_that_leaves_is_not_swallowed
"""


class TestSubprocess(ExecutorContract):
    inline = 64 << 10

    for name in vars(ExecutorContract):
        if name.startswith("test_") and name.removeprefix("test_") not in ESSENTIAL.split():
            locals()[name] = None

    @pytest.fixture
    def executor(self, subprocess_executor, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return subprocess_executor.SubprocessExecutor()

    def left_behind(self, executor):
        return Path(tempfile.gettempdir()).glob("subprocess-executor-*")


def test_the_example_says_what_to_do_if_it_cannot_run(subprocess_executor):
    executor = subprocess_executor.SubprocessExecutor(python="/no/such/python")
    with pytest.raises(lambdamr.BrokenExecutorError, match="pass another python="):
        lambdamr.map_reduce(sum, int.__add__, range(10), executor=executor)
