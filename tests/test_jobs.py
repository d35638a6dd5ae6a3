"""Evaluations as jobs: found again, stopped, one at a time."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from rag_inspect.errors import RerankError
from rag_inspect.evaluation import add_provenance
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.jobs import ALL_KEPT, KEPT, Job, Jobs, JobSettings
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.turn import Turn
from rag_inspect.tasks import Stage
from tests.evaluating import ExactRetriever, ScriptedReranker, evaluate, make_corpus

SETTINGS = JobSettings(corpus="animals", split="test", first_stages=("bag",), top_k=20, top_n=5)


def the_evaluation_of(corpus, stopped):
    for moment in evaluate(corpus, [ExactRetriever(corpus)], [ScriptedReranker()], stopped=stopped):
        if isinstance(moment, Outcome):
            outcome = add_provenance(moment, corpus)
            yield Evaluation(outcome, assess(outcome), "")
        else:
            yield moment


def test_a_job_goes_on_without_a_watcher_and_is_found_again_by_its_id():
    corpus, jobs = make_corpus(60), Jobs()
    job = jobs.start(Job(lambda stopped: the_evaluation_of(corpus, stopped), "animals", SETTINGS))
    next(job.watch(0.001), None)
    again = jobs.get(job.job_id)
    assert again is job
    assert isinstance(again.value(), Evaluation) and again.over and len(again.rows) == 60
    assert again.result is again.value() and not again.stopped and not jobs.running
    assert [row.query_id for row in again.rows] == [q.query_id for q in corpus.queries]
    assert jobs.get("none") is None


@pytest.mark.parametrize("odd", [["a"], {"a": 1}, [], {}, 5, None, True])
def test_what_is_no_text_is_the_id_of_no_job(odd):
    assert Jobs().get(odd) is None


def test_a_job_stops_and_a_jobs_error_is_kept():
    def endless(stopped):
        while not stopped():
            yield Stage(0, 0, "at work")
            time.sleep(0.005)

    def broken(stopped):
        yield Stage(0, 0, "at work")
        raise RerankError("no")

    jobs = Jobs()
    job = jobs.start(Job(endless, "endless", SETTINGS))
    assert jobs.running == [job]
    began = time.perf_counter()
    job.stop()
    for _ in job.watch(0.01):
        pass
    assert job.stopped and time.perf_counter() - began < 5
    assert job.result is None and job.error is None and job.moment == job.stage == Stage(0, 0, "at work")
    broke = jobs.start(Job(broken, "broken", SETTINGS))
    with pytest.raises(RerankError, match="no"):
        broke.value()
    assert not broke.stopped


def finish(jobs, owner="", count=1):
    """The ids of so many jobs of this owner, each over at once."""
    ids = []
    for _ in range(count):
        job = jobs.start(Job(lambda stopped: iter(()), "nothing", SETTINGS, owner=owner))
        ids.append(job.job_id)
        assert list(job.watch(0.001)) == []
    return ids


def count_found(jobs, ids):
    return sum(jobs.get(job_id) is not None for job_id in ids)


def test_the_oldest_finished_jobs_of_an_owner_are_forgotten_and_nobody_elses():
    jobs = Jobs()
    hers = finish(jobs, "ann")
    his = finish(jobs, "bob", KEPT + 3)
    assert [bool(jobs.get(job_id)) for job_id in his] == [False] * 3 + [True] * KEPT
    assert count_found(jobs, hers) == 1


def test_many_owners_share_what_is_kept_and_who_has_most_gives_first():
    jobs = Jobs()
    hers = finish(jobs, "ann")
    his = finish(jobs, "bob", KEPT)
    others = [finish(jobs, f"visitor {number}")[0] for number in range(ALL_KEPT - 2)]
    assert count_found(jobs, hers) == count_found(jobs, his) == 1 and jobs.get(his[-1])
    assert count_found(jobs, others) == ALL_KEPT - 2
    finish(jobs, "one more")
    assert count_found(jobs, [*hers, *his, *others]) == ALL_KEPT - 1  # of one each, the oldest goes


def test_a_job_that_runs_is_never_forgotten():
    go_on, jobs = threading.Event(), Jobs()

    def wait(stopped):
        go_on.wait(30)
        yield Stage(0, 0, "at work")

    running = [jobs.start(Job(wait, "long", SETTINGS, owner="ann")) for _ in range(KEPT + 1)]
    finish(jobs, "ann", 2)
    assert all(jobs.get(job.job_id) is job for job in running)
    go_on.set()


def test_only_one_evaluation_has_the_machine_and_the_second_is_told_who(tmp_path):
    first, second = Turn(tmp_path, "animals with mini"), Turn(tmp_path, "other")
    assert first.take() and not second.take()
    second.free()  # which is not his to give
    for _ in range(3):
        stage = next(second.wait(lambda: False, every=0.01))
        assert "one evaluation runs at a time on this machine (animals with mini, since" in str(stage)
    first.free()
    assert list(second.wait(lambda: False)) == []
    assert second.holder.startswith("other, since")
    second.free()
    assert second.holder == "another evaluation"


HOLDING = """
import sys, time
from pathlib import Path
from rag_inspect.evaluation.turn import Turn
turn = Turn(Path(sys.argv[1]), "something long")
assert turn.take()
print("taken", flush=True)
time.sleep(60)
"""


def test_a_process_that_dies_gives_its_turn_back(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"taken\n"
    turn = Turn(tmp_path, "mine")
    assert not turn.take()
    assert turn.holder.startswith("something long, since") and turn.holder.endswith(f"process {holder.pid}")
    holder.kill()
    holder.wait()
    assert turn.take() and turn.holder.startswith("mine, since")
    turn.free()


def test_a_turn_can_be_given_back_by_another_thread(tmp_path):
    turn, other = Turn(tmp_path, "mine"), Turn(tmp_path, "other")
    assert turn.take()
    thread = threading.Thread(target=turn.free)
    thread.start()
    thread.join()
    assert other.take()
    other.free()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EIO])
def test_a_file_system_without_locks_holds_no_evaluation_up(tmp_path, monkeypatch, number):
    def no_locks(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_locks)
    first, second = Turn(tmp_path, "first"), Turn(tmp_path, "second")
    assert first.take() and second.take()
    first.free()
    second.free()
    monkeypatch.undo()
    assert first.take() and not second.take()  # it left nothing that would hold up the next
    first.free()


def test_a_disk_that_takes_nothing_costs_the_others_a_word_and_the_evaluation_nothing(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path; from rag_inspect.evaluation.turn import Turn\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "turn = Turn(Path(sys.argv[1]), 'animals'); assert turn.take(); turn.free(); assert turn.take(); turn.free()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
