"""Tasks: watched by all who wait, and stopped at their next report."""

import threading
import time

import pytest

from rag_inspect.errors import RagInspectError
from rag_inspect.tasks import Stage, Task
from tests.browsing import wait_until


def report_for_ever(task):
    """Work that ends only when it is stopped."""
    for done in range(10_000):
        task.report(done, 10_000, "steps")
        time.sleep(0.002)


# A stage, a task


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Stage(0, 0, "opening the index"), "opening the index"),
        (Stage(32, 1280, "passages of tiny embedded"), "32 / 1,280 passages of tiny embedded"),
        (
            Stage(5_400_000, 1_129_000_000, "bytes of BAAI/bge-reranker-base"),
            "of BAAI/bge-reranker-base 5 / 1,129 MB",
        ),
    ],
)
def test_a_stage_in_words(stage, said):
    assert str(stage) == said


def test_what_was_made_is_handed_over_and_progress_is_told():
    told, go = [], threading.Event()

    def make(task):
        task.report(1, 2, "halves")
        assert go.wait(10)
        return "whole"

    task = Task(make, "making")
    assert not task.begun and not task.over
    for stage in task.watch(every=0.01):
        told.append(stage)
        go.set()
    assert task.over and task.value() == task.result == "whole"
    assert set(told) <= {Stage(0, 0, "making"), Stage(1, 2, "halves")} and told
    assert list(task.watch()) == []


def test_progress_reaches_whoever_waits_for_the_value():
    told, go = [], threading.Event()

    def make(task):
        task.report(3, 4, "quarters")
        return go.wait(10)

    def tell(*stage):
        told.append(stage)
        go.set()

    assert Task(make, "making").value(tell) is True
    assert (3, 4, "quarters") in told


def test_an_error_is_raised_where_the_value_is_asked_for():
    def make(task):
        raise ValueError("no luck")

    task = Task(make, "making")
    for _ in range(2):
        with pytest.raises(ValueError, match="no luck"):
            task.value()
    assert not task.stopped and task.result is None


def test_leaving_early_stops_the_watching_and_not_the_task():
    go = threading.Event()
    task = Task(lambda _: go.wait(10), "making")
    stages = task.watch(every=0.01)
    next(stages)
    stages.close()
    assert not task.over
    go.set()
    assert task.value() is True


def test_a_task_that_is_stopped_ends_at_its_next_report():
    task = Task(report_for_ever, "indexing").start()
    wait_until(lambda: task.stage.done > 3)
    task.stop()
    wait_until(lambda: task.over)
    assert task.stopped and task.stage.done < 9000
    with pytest.raises(RagInspectError, match="indexing was stopped"):
        task.value()


def test_a_stop_passes_every_except_exception_on_its_way():
    def make(task):
        while True:
            try:
                task.report(0, 0, "bytes")
            except Exception:
                return "swallowed"

    task = Task(make, "downloading").start()
    task.stop()
    wait_until(lambda: task.over)
    assert task.stopped


def test_a_task_stopped_before_it_began_does_nothing():
    made: list[int] = []
    task = Task(lambda _: made.append(1), "making")
    task.stop()
    assert list(task.watch(0.01)) == [] and task.stopped and not made
