"""The start of `rag-inspect` and `python -m rag_inspect`: Ctrl+C ends the process with one line, whatever it is doing."""

from __future__ import annotations

import os
import signal
import sys

from rag_inspect.errors import INTERRUPTED


class Interruption:
    """The handler of SIGINT. It raises KeyboardInterrupt once, if the command is `running`; else it ends the process.

    Modules that are being loaded, or a thread that is deep in torch as Python ends, would answer with a traceback.
    """

    running = False

    def __call__(self, *_: object) -> None:
        if not self.running:
            os.write(2, b"rag-inspect: stopped\n")
            os._exit(INTERRUPTED)
        self.running = False  # the next Ctrl+C does not wait for anything
        raise KeyboardInterrupt


def run() -> None:
    """Run the command of this process, and end the process with its exit code."""
    interruption = Interruption()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent has it ignored
        signal.signal(signal.SIGINT, interruption)
    from rag_inspect.cli import main  # loads most of the package, so it comes after the handler

    try:
        interruption.running = True
        code = main()
        interruption.running = False
    except KeyboardInterrupt:  # outside of the command's own work, such as in a pipe that nobody reads
        interruption()
    if code == INTERRUPTED:  # a thread that is deep in torch would be waited for, or crash as Python ends
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
