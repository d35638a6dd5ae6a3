"""Loads: each thing once, watched by all who wait, and a failure that is not for ever."""

import threading
import time

import pytest

from rag_inspect.loading import Load, Loads, Stage


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
    told = []
    go = threading.Event()

    def make(report):
        report(1, 2, "halves")
        assert go.wait(10)
        return "whole"

    load = Load(make, "making")
    for stage in load.watch(every=0.01):
        told.append(stage)
        go.set()
    assert load.over and load.value() == "whole"
    assert set(told) <= {Stage(0, 0, "making"), Stage(1, 2, "halves")} and told
    assert list(load.watch()) == []


def test_progress_reaches_whoever_waits_for_the_value():
    told, go = [], threading.Event()

    def make(report):
        report(3, 4, "quarters")
        return go.wait(10)

    def tell(*stage):
        told.append(stage)
        go.set()

    assert Load(make, "making").value(tell) is True
    assert (3, 4, "quarters") in told


def test_an_error_is_raised_where_the_value_is_asked_for():
    def make(report):
        raise ValueError("no luck")

    load = Load(make, "making")
    for _ in range(2):
        with pytest.raises(ValueError, match="no luck"):
            load.value()


def test_leaving_early_stops_the_watching_and_not_the_load():
    go = threading.Event()
    load = Load(lambda _: go.wait(10), "making")
    stages = load.watch(every=0.01)
    next(stages)
    stages.close()
    assert not load.over
    go.set()
    assert load.value() is True


def test_many_who_ask_at_once_share_one_load():
    loads, made, start = Loads(), [], threading.Barrier(8)

    def make(report):
        time.sleep(0.05)
        made.append(1)
        return object()

    values = []

    def ask():
        start.wait()
        values.append(loads.get("key", make, "making").value())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(values) == 8 and len({id(value) for value in values}) == 1


def test_keys_do_not_wait_for_each_other():
    loads, go = Loads(), threading.Event()
    slow = loads.get("slow", lambda _: go.wait(10), "slow")
    assert loads.get("quick", lambda _: 7, "quick").value() == 7
    assert not slow.over and not loads.made("slow") and loads.made("quick") and not loads.made("never")
    go.set()
    slow.value()


def test_what_failed_is_tried_again_and_what_was_made_is_kept():
    loads, tries = Loads(), []

    def make(report):
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        return "at last"

    for _ in range(2):
        with pytest.raises(OSError, match="not yet"):
            loads.get("key", make, "making").value()
        assert not loads.made("key")
    assert [loads.get("key", make, "making").value() for _ in range(3)] == ["at last"] * 3
    assert len(tries) == 3
