"""What can go wrong, as a tree:

RagInspectError
├── CorpusError      a corpus, a query set or qrels that cannot be read, or a name there is none of
├── ModelError       a model that is not here, cannot be had, or is not the one it should be
├── RetrievalError   an index that cannot be built or asked
├── RerankError      scores that cannot be had or make no order (NaN)
└── InputError       a blank query, top_k or top_n out of range, a setting that makes no sense

Every message is one line: the place, what was found, what was expected, what to do.
"""

INTERRUPTED = 130  # the exit code after Ctrl+C, as a shell has it: 128 + SIGINT


class RagInspectError(Exception):
    """Anything this package refuses, in words meant for the person who asked."""

    def __init__(self, message: str) -> None:
        # Messages quote what others wrote: line ends and half surrogate pairs stop here.
        super().__init__(" ".join(message.encode("utf-8", "replace").decode().splitlines()))


class CorpusError(RagInspectError):
    pass


class ModelError(RagInspectError):
    pass


class RetrievalError(RagInspectError):
    pass


class RerankError(RagInspectError):
    pass


class InputError(RagInspectError):
    pass
