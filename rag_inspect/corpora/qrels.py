"""The judgements of a corpus, split by split, each read when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from rag_inspect.corpora.columns import QRELS
from rag_inspect.corpora.faults import Report, raise_fault, read_on
from rag_inspect.corpora.fields import read_grade, read_id
from rag_inspect.corpora.opener import CorpusFile
from rag_inspect.corpora.rows import read_rows
from rag_inspect.errors import CorpusError
from rag_inspect.types import Qrels


def read_qrels(file: CorpusFile, report: Report = raise_fault) -> Qrels:
    """Read one file of judgements in any dialect of columns.QRELS. Raises CorpusError where it cannot be trusted."""
    grades: dict[str, dict[str, int]] = {}
    for place, row in read_on(read_rows(file, QRELS, report), report):
        try:
            query_id = read_id(place, "query-id", row["query"])
            passage_id = read_id(place, "corpus-id", row["passage"])
            grade = read_grade(place, row["grade"])
            judged = grades.setdefault(query_id, {})
            if judged.setdefault(passage_id, grade) != grade:
                raise CorpusError(
                    f'{place} judges passage "{passage_id[:80]}" for query "{query_id[:80]}" again, '
                    f"{grade} after {judged[passage_id]}; keep one grade per pair"
                )
        except CorpusError as fault:
            report(fault)
    return {query_id: judged for query_id, judged in grades.items() if judged}


class Splits(Mapping[str, Qrels]):
    """The qrels by split. A split is read when it is asked for, once; a fault in another one does not matter then."""

    def __init__(self, files: Mapping[str, CorpusFile], report: Report = raise_fault) -> None:
        self.files = files
        self._report = report
        self._read: dict[str, Qrels] = {}
        self._lock = threading.Lock()

    def __getitem__(self, split: str) -> Qrels:
        with self._lock:
            if split not in self._read:
                self._read[split] = read_qrels(self.files[split], self._report)
            return self._read[split]

    def __contains__(self, split: object) -> bool:
        return split in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)
