"""A store: each thing once, stopped when nobody waits for it, closed when nobody uses it."""

import math
import threading
import time

import pytest

from rag_inspect.store import Store
from tests.browsing import wait_until


class Thing:
    """Something that can be closed; notes whether it was, and counts how often."""

    def __init__(self, size=1):
        self.size, self.closed = size, 0

    def close(self):
        self.closed += 1


def report_for_ever(task):
    """Work that ends only when it is stopped."""
    for done in range(10_000):
        task.report(done, 10_000, "steps")
        time.sleep(0.002)


# Each thing once


@pytest.mark.parametrize("askers", [8, 50])
def test_many_who_ask_at_once_share_one_task(askers):
    store, made, start, values = Store(), [], threading.Barrier(askers), []

    def make(task):
        time.sleep(0.05)
        made.append(1)
        return object()

    def ask():
        start.wait()
        with store.lease("key", make, "making") as lease:
            values.append(lease.value())

    threads = [threading.Thread(target=ask) for _ in range(askers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(values) == askers and len({id(value) for value in values}) == 1


def test_keys_do_not_wait_for_each_other():
    store, go = Store(), threading.Event()
    with store.lease("slow", lambda _: go.wait(10), "slow") as slow:
        slow.task.start()
        with store.lease("quick", lambda _: 7, "quick") as quick:
            assert quick.value() == 7 and not slow.task.over
        go.set()
        assert slow.value() is True
    assert len(store) == 2


def test_what_failed_is_tried_again_and_what_was_made_is_kept():
    store, tries = Store(), []

    def make(task):
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        return "at last"

    def ask():
        with store.lease("key", make, "making") as lease:
            return lease.value()

    for _ in range(2):
        with pytest.raises(OSError, match="not yet"):
            ask()
    assert [ask() for _ in range(3)] == ["at last"] * 3 and len(tries) == 3


def test_a_lease_that_nobody_watched_begins_nothing_and_leaves_nothing():
    store, made = Store(), []
    with store.lease("key", lambda _: made.append(1), "making"):
        assert len(store) == 1
    assert len(store) == 0 and not made


# What nobody waits for


def test_what_the_last_one_leaves_is_stopped_and_begun_again_when_asked_for():
    store, begun = Store(abandonable=True), []

    def make(task):
        begun.append(1)
        if len(begun) == 1:
            report_for_ever(task)
        return "whole"

    first, second = (store.lease("index", make, "indexing") for _ in range(2))
    stages = first.watch(0.01)
    next(stages)
    first.release()
    time.sleep(0.05)
    assert not second.task.stopping  # one is still there
    second.release()
    with store.lease("index", make, "indexing") as third:
        assert third.task is not second.task
        assert third.value() == "whole" and second.task.stopped and len(begun) == 2


def test_two_never_make_one_thing():
    """The one that was told to stop takes its time: the next begins when it is over."""
    store, at_work, most = Store(abandonable=True), [], []
    go = threading.Event()

    def make(task):
        at_work.append(1)
        most.append(len(at_work))
        go.wait(10)
        at_work.pop()
        task.check()
        return "whole"

    first = store.lease("index", make, "indexing")
    first.task.start()
    wait_until(lambda: at_work)
    first.release()
    with store.lease("index", make, "indexing") as second:
        second.task.start()
        time.sleep(0.1)
        go.set()
        assert second.value() == "whole" and most == [1, 1]


def test_what_is_not_abandonable_goes_on_for_the_next_who_asks():
    store, go, begun = Store(), threading.Event(), []

    def make(task):
        begun.append(1)
        while not go.wait(0.01):
            task.report(1, 2, "bytes of a model")
        return "model"

    with store.lease("model", make, "loading") as lease:
        next(lease.watch(0.01))
    go.set()
    with store.lease("model", make, "loading") as lease:
        assert lease.value() == "model" and begun == [1]


# What is too much


def hold(store, key, size=1):
    lease = store.lease(key, lambda _: Thing(size), f"making {key}")
    return lease, lease.value()


def test_past_the_budget_what_was_used_longest_ago_is_closed():
    store, things = Store(10, lambda thing: thing.size), {}
    for key in ("a", "b"):
        lease, things[key] = hold(store, key, 4)
        lease.release()
    lease, again = hold(store, "a", 4)
    assert again is things["a"]
    lease.release()
    lease, things["c"] = hold(store, "c", 4)
    lease.release()
    assert [things[key].closed for key in "abc"] == [0, 1, 0] and len(store) == 2
    lease, fresh = hold(store, "b", 1)
    assert fresh is not things["b"] and not fresh.closed
    lease.release()


def test_what_is_leased_is_never_closed_and_goes_when_its_last_user_is_done():
    store = Store(0, lambda thing: thing.size)
    first, thing = hold(store, "a")
    second, same = hold(store, "a")
    other, bigger = hold(store, "b", 100)
    assert same is thing
    first.release()
    first.release()  # once is once
    assert not thing.closed and not bigger.closed
    second.release()
    assert thing.closed == 1 and not bigger.closed
    other.release()
    assert bigger.closed == 1 and len(store) == 0


def test_what_a_thing_holds_stays_as_long_as_the_thing():
    parts = Store(0)
    wholes = Store(1)
    made: list[Thing] = []

    def part(task):
        made.append(Thing())
        return made[-1]

    def whole(task):
        task.hold(parts.lease("part", part, "part")).value(task.report)
        return Thing()

    with wholes.lease("whole", whole, "whole") as lease:
        thing = lease.value()
    assert not made[0].closed and not thing.closed
    wholes.close()
    assert thing.closed == 1 and made[0].closed == 1


def test_what_failed_lets_go_of_what_it_held():
    parts = Store(0)

    def whole(task):
        task.hold(parts.lease("part", lambda _: Thing(), "part")).value()
        raise OSError("no")

    with pytest.raises(OSError, match="no"), Store().lease("whole", whole, "whole") as lease:
        lease.value()
    wait_until(lambda: len(parts) == 0)


def test_a_model_that_only_idle_indexes_hold_can_go():
    """And in the order of use: the one whose index was asked for last stays."""
    indexes = Store(10, abandonable=True)
    models = Store(2, dependents=indexes)
    made: dict[str, Thing] = {}

    def search(name):
        def index(task):
            made[name] = task.hold(models.lease(name, lambda _: Thing(), name)).value()
            return Thing()

        with indexes.lease(name, index, name) as lease:
            lease.value()

    for name in ("one", "two", "one", "three"):
        search(name)
    wait_until(lambda: made["two"].closed)
    assert not made["one"].closed and not made["three"].closed


def test_many_users_of_many_things_never_see_one_closed():
    store, wrong, closed = Store(2), [], []

    class Watched(Thing):
        def close(self):
            super().close()
            closed.append(self)

    def use(seed):
        for step in range(60):
            key = (seed * 7 + step * 3) % 5
            with store.lease(key, lambda _: Watched(), "thing") as lease:
                thing = lease.value()
                time.sleep(0.0005)
                if thing.closed:
                    wrong.append(key)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and closed and all(thing.closed == 1 for thing in closed)
    assert len(store) <= 2


def test_closing_a_store_stops_the_makers_and_spares_the_users():
    store = Store(math.inf)
    used, thing = hold(store, "used")
    lease, idle = hold(store, "idle")
    lease.release()
    making = store.lease("making", report_for_ever, "making")
    making.task.start()
    store.close()
    wait_until(lambda: making.task.over)
    assert making.task.stopped and idle.closed == 1 and not thing.closed
    used.release()
    assert thing.closed == 1 and len(store) == 0


def test_a_thing_that_fails_to_close_harms_nobody(caplog):
    class Stuck(Thing):
        def close(self):
            raise OSError("stuck")

    store = Store(0)
    with store.lease("stuck", lambda _: Stuck(), "making it") as lease:
        lease.value()
    assert len(store) == 0 and "closing what came of making it failed" in caplog.text
