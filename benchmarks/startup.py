"""Compare the startup time with that of an empty Gradio app: seconds from the start of Python to HTTP 200.

    python -m benchmarks.startup [--repeats 5]

Both start in turn, each time in a new process with a new state folder. The output is the medians and their ratio.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EMPTY = """
import os, gradio as gr
with gr.Blocks(analytics_enabled=False) as app:
    gr.Markdown("empty")
app.launch(server_port=int(os.environ["PORT"]), ssr_mode=False)
"""
OURS = """
import os
from rag_inspect.settings import Settings
from rag_inspect.ui import serve
from rag_inspect.workbench import Workbench
serve(Workbench(Settings.from_env()), host="127.0.0.1", port=int(os.environ["PORT"]))
"""


def time_to_answer(code: str) -> float:
    """Start the program and return the seconds until its page answers 200; then end it. Raises RuntimeError."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        environ = os.environ | {
            "PORT": str(port),
            "RAG_INSPECT_HOME": home,
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=environ, stdout=subprocess.DEVNULL
        )
        try:
            while process.poll() is None and time.perf_counter() - began < 120:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                        if answer.status == 200:
                            return time.perf_counter() - began
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    time.sleep(0.02)
            raise RuntimeError("the app did not answer within two minutes")
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Run both in turn; print the medians and the ratio."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--repeats", type=int, default=5)
    repeats = options.parse_args().repeats
    pairs = [(time_to_answer(EMPTY), time_to_answer(OURS)) for _ in range(repeats)]
    empty, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(
        f"empty Gradio app {empty:.2f} s, rag-inspect {ours:.2f} s, ratio {ratio:.2f} (median of {repeats}; target 1.3)"
    )


if __name__ == "__main__":
    main()
