"""Evaluations as jobs: found again, stopped, one at a time."""

import subprocess
import sys
import threading
import time

import pytest

from rag_inspect.errors import RerankError
from rag_inspect.evaluation import evaluate
from rag_inspect.evaluation.jobs import Jobs, Turn
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.loading import Stage
from tests.evaluating import ExactRetriever, ScriptedReranker, make_corpus


def test_a_job_goes_on_without_a_watcher_and_is_found_again_by_its_id():
    corpus, gate = make_corpus(60), threading.Event()

    def make(stopped):
        for moment in evaluate(corpus, ExactRetriever(corpus), [ScriptedReranker()], stopped=stopped):
            yield moment
            if not isinstance(moment, Outcome) and moment.queries_done:
                gate.wait(10)

    jobs = Jobs()
    job = jobs.start(make, "animals")
    next(job.watch(0.01))
    again = jobs.get(job.job_id)
    assert again is job and jobs.running == [job]
    gate.set()
    assert isinstance(again.value(), Outcome) and again.over and len(again.rows) == 60 and not again.stopped
    assert [row["query_id"] for row in again.rows] == [q.query_id for q in corpus.queries]
    assert jobs.get("none") is None


def test_a_job_stops_and_a_jobs_error_is_kept():
    def endless(stopped):
        while not stopped():
            yield Stage(0, 0, "at work")
            time.sleep(0.005)

    def broken(stopped):
        yield Stage(0, 0, "at work")
        raise RerankError("no")

    jobs = Jobs()
    job = jobs.start(endless, "endless")
    began = time.perf_counter()
    job.stop()
    assert job.value() is None and job.stopped and time.perf_counter() - began < 5
    with pytest.raises(RerankError, match="no"):
        jobs.start(broken, "broken").value()


def test_only_one_evaluation_has_the_machine_and_the_second_is_told_who(tmp_path):
    first, second = Turn(tmp_path, "animals with mini"), Turn(tmp_path, "other")
    assert first.take() and not second.take()
    stage = next(second.wait(lambda: False, every=0.01))
    assert "one evaluation runs at a time on this machine (animals with mini, since" in str(stage)
    first.free()
    assert list(second.wait(lambda: False)) == []
    second.free()


def test_a_disk_that_takes_nothing_costs_the_others_a_word_and_the_evaluation_nothing(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path; from rag_inspect.evaluation.jobs import Turn\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "turn = Turn(Path(sys.argv[1]), 'animals'); assert turn.take(); turn.free(); assert turn.take(); turn.free()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
