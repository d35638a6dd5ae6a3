"""Where things live and what is on, read once from the environment: the only reader of os.environ."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_cache_path

from rag_inspect.errors import InputError


def find_built_in_corpora(package: Path) -> Path:
    """A checkout has them beside the package, an installed wheel inside it.

    The wheel's come first: beside an installed package, `corpora` would be somebody else's.
    """
    packed = package / "built_in_corpora"
    return packed if packed.is_dir() else package.parent / "corpora"


BUILT_IN_CORPORA = find_built_in_corpora(Path(__file__).resolve().parent)

HUB = "https://huggingface.co"
CACHE_MB = 2_000
UNKNOWN_MEMORY_MB = 8_000  # taken for what this machine has, where it does not tell


def half_of_memory() -> int:
    """Half of this machine's memory, or of what its container may use, in MB."""
    return max(1, (_memory_bytes() or UNKNOWN_MEMORY_MB * 1_000_000) // 2_000_000)


@dataclass(frozen=True)
class Settings:
    """All that can be set from outside; each field names its variable.

    home         RAG_INSPECT_HOME         local state (default: the user cache folder)
    models_dir   RAG_INSPECT_MODELS_DIR   model folders for a machine without a hub: MODELS_DIR/<owner>/<name>
    chroma_url   RAG_INSPECT_CHROMA_URL   a Chroma server instead of the embedded one
    corpora_dir  RAG_INSPECT_CORPORA_DIR  where the named corpora are (default: the built-in ones)
    hub_endpoint HF_ENDPOINT              the model hub
    hub_offline  HF_HUB_OFFLINE           never ask the hub
    device       RAG_INSPECT_DEVICE       cpu, cuda, mps or auto
    downloads    RAG_INSPECT_DOWNLOADS    on or off: whether choosing a model may fetch it (off on a Space, where
                                          a stranger's link could ask for gigabytes)
    int8         RAG_INSPECT_QUANTIZE     on or off: mini's linear layers in int8 on a CPU (faster, another order now and
                                          then; mini's card has both measured)
    opened_corpus  the folder that the app opens on (`serve --corpus`): it can be chosen wherever it is
    model_memory_mb RAG_INSPECT_MODEL_MEMORY  MB of models held at once: past it, those used longest ago are let go
                                          (default: half of this machine's memory)
    cache_mb     RAG_INSPECT_CACHE_MB     MB of the score cache: past it, the oldest scores go (default: 2,000)
    has_screen     whether a browser can be opened here: macOS, Windows, or a display
    public         on where SPACE_ID is set: strangers come, who choose corpora by name, never by a path on the
                   server, and see no evaluations but their own
    """

    home: Path
    models_dir: Path | None = None
    chroma_url: str | None = None
    corpora_dir: Path = BUILT_IN_CORPORA
    hub_endpoint: str = HUB
    hub_offline: bool = False
    device: str = "auto"
    public: bool = False
    downloads: bool = True
    int8: bool = False
    model_memory_mb: int = field(default_factory=half_of_memory)
    cache_mb: int = CACHE_MB
    has_screen: bool = False
    opened_corpus: Path | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings as the environment gives them; an empty variable counts as unset. InputError where one is nonsense."""
        given = {name: value for name, value in environ.items() if value}
        models_dir = given.get("RAG_INSPECT_MODELS_DIR")
        return cls(
            home=Path(given.get("RAG_INSPECT_HOME") or user_cache_path("rag-inspect")).expanduser(),
            models_dir=Path(models_dir).expanduser() if models_dir else None,
            chroma_url=given.get("RAG_INSPECT_CHROMA_URL"),
            corpora_dir=Path(given.get("RAG_INSPECT_CORPORA_DIR") or BUILT_IN_CORPORA).expanduser(),
            hub_endpoint=given.get("HF_ENDPOINT", HUB).rstrip("/"),
            hub_offline=_on(given.get("HF_HUB_OFFLINE", "")),
            device=given.get("RAG_INSPECT_DEVICE", "auto"),
            public="SPACE_ID" in given,
            downloads=_on(given.get("RAG_INSPECT_DOWNLOADS", "off" if "SPACE_ID" in given else "on")),
            int8=_on(given.get("RAG_INSPECT_QUANTIZE", "off")),
            model_memory_mb=_megabytes(given, "RAG_INSPECT_MODEL_MEMORY") or half_of_memory(),
            cache_mb=_megabytes(given, "RAG_INSPECT_CACHE_MB") or CACHE_MB,
            has_screen=sys.platform in {"darwin", "win32"}
            or bool(given.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}),
        )


def _on(value: str) -> bool:
    return value.lower() in {"1", "true", "yes", "on"}


def _megabytes(given: Mapping[str, str], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    text = value.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 13 and int(text)):
        raise InputError(f"{name} is {value[:40]!r}; expected a whole number of MB above 0, such as 4000")
    return int(text)


def _memory_bytes() -> int | None:
    """What this machine has, or this container may use; None where nobody says."""
    known = [_windows_memory()]
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in (
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ):  # of a container
        with suppress(ValueError, OSError):  # "max": none
            known.append(int(Path(limit).read_text()))
    return min((size for size in known if size and size > 0), default=None)


def _windows_memory() -> int | None:
    if sys.platform != "win32":
        return None
    import ctypes

    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("others", ctypes.c_uint64 * 6),
        )

    status = Status(length=ctypes.sizeof(Status))
    asked = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.total) if asked else None
