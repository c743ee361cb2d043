"""The contract of executors, on an emulated AWS Lambda."""

import pytest
import stack
from suite import ExecutorContract

import lambdamr
from lambdamr.runtimes import envelope


class TestLambda(ExecutorContract):
    inline = envelope.INLINE

    @pytest.fixture
    def executor(self, cloud):
        return lambdamr.LambdaExecutor(
            functions=[cloud.function], bucket=cloud.bucket, endpoint_url=cloud.url, concurrency=4
        )

    @pytest.fixture(autouse=True)
    def _remember(self, cloud):
        self.cloud = cloud

    def left_behind(self, executor):
        return stack.keys(self.cloud.url, self.cloud.bucket, "jobs/")
