"""Every executor passes the suite that every executor must pass."""

import pytest

from headrace.backends.executors.inline import InlineExecutor
from headrace.backends.executors.process import ProcessExecutor
from headrace.backends.executors.thread import ThreadExecutor
from headrace.testing.executor_conformance import ExecutorConformance


class TestInline(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> InlineExecutor:
        return InlineExecutor()


class TestThread(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> ThreadExecutor:
        return ThreadExecutor()


class TestOneThread(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> ThreadExecutor:
        return ThreadExecutor(1)


class TestProcess(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> ProcessExecutor:
        return ProcessExecutor(2)


class TestProcessThatIsReplacedOften(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> ProcessExecutor:
        return ProcessExecutor(1, calls_per_process=25)
