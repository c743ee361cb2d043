"""The contract of executors, run over those of lambdamr."""

import logging
import os
import tempfile
from pathlib import Path

import dask
import distributed
import pytest
from suite import ExecutorContract

import lambdamr
from lambdamr.executors import dask as executors_dask, local


class TestInline(ExecutorContract):
    processes = False
    interrupts = False

    @pytest.fixture
    def executor(self):
        return lambdamr.InlineExecutor()


class TestLocal(ExecutorContract):
    inline = local.INLINE

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls):
        with lambdamr.LocalExecutor(workers=2) as executor:
            yield executor

    def left_behind(self, executor):
        roots = [Path(tempfile.gettempdir()), Path("/dev/shm")]
        folders = [folder for root in roots for folder in root.glob(f"lambdamr-*-{os.getpid()}-*")]
        return [file for folder in folders for file in folder.iterdir() if file.name != "lock"]


class TestDask(ExecutorContract):
    inline = executors_dask.INLINE

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls):
        with (
            # Or it gives up a worker that is just being replaced 15 s after one that died.
            dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=True,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client

    @pytest.fixture
    def executor(self, client):
        return lambdamr.DaskExecutor(client)

    def left_behind(self, executor):
        def tasks(dask_scheduler):
            return [key for key in map(str, dask_scheduler.tasks) if "lambdamr" in key]

        return executor._client.run_on_scheduler(tasks)
