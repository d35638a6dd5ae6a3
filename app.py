"""The entry of the web app, on a laptop and on a Space."""

from contextlib import suppress

from rag_inspect.settings import Settings
from rag_inspect.ui import serve
from rag_inspect.workbench import Workbench

if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # Ctrl+C ends it
        serve(Workbench(Settings.from_env()))
