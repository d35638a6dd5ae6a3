"""The settings, read once from the environment; the only module that reads os.environ."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from platformdirs import user_cache_path

from rag_inspect.errors import InputError


def find_built_in_corpora(package: Path) -> Path:
    """Return the folder of the built-in corpora: inside an installed package, beside it in a checkout.

    Look inside first: a folder `corpora` beside an installed package belongs to somebody else.
    """
    packed = package / "built_in_corpora"
    return packed if packed.is_dir() else package.parent / "corpora"


BUILT_IN_CORPORA = find_built_in_corpora(Path(__file__).resolve().parent)

HUB = "https://huggingface.co"
THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
"""The hosts that other machines cannot reach."""
CACHE_MB = 2_000
UNKNOWN_MEMORY_MB = 8_000  # assumed if the size of the memory is unknown


def half_of_memory() -> int:
    """Return half of the memory of this machine or container, in MB."""
    return max(1, (_read_memory_bytes() or UNKNOWN_MEMORY_MB * 1_000_000) // 2_000_000)


@dataclass(frozen=True)
class Settings:
    """All settings, each with its environment variable if it has one.

    home         RAG_INSPECT_HOME         local state (default: the user cache folder)
    models_dir   RAG_INSPECT_MODELS_DIR   model folders for a machine without a hub: MODELS_DIR/<owner>/<name>
    chroma_url   RAG_INSPECT_CHROMA_URL   a Chroma server instead of the embedded one
    corpora_dir  RAG_INSPECT_CORPORA_DIR  folder of the named corpora (default: the built-in ones)
    hub_endpoint HF_ENDPOINT              the model hub
    hub_offline  HF_HUB_OFFLINE           never ask the hub
    device       RAG_INSPECT_DEVICE       cpu, cuda, mps or auto
    public       RAG_INSPECT_PUBLIC       on or off: public mode. Visitors choose corpora by name, never by a path on
                                          the server, see only their own evaluations, and share what there is fairly.
                                          Unless set: on if SPACE_ID is set; `serve` turns it on for a host beyond
                                          this machine
    downloads    RAG_INSPECT_DOWNLOADS    on or off: whether choosing a model may download it. Unless set: off in
                                          public mode, where anybody's link could start a download of gigabytes
    int8         RAG_INSPECT_QUANTIZE     on or off: mini's linear layers in int8 on a CPU (faster; the order
                                          sometimes differs; mini's card measures both)
    opened_corpus  the folder that the app opens on (`serve --corpus`); anybody may choose it, even in public mode
    model_memory_mb RAG_INSPECT_MODEL_MEMORY  MB of models in memory; beyond it, the least recently used are closed
                                          (default: half of this machine's memory)
    cache_mb     RAG_INSPECT_CACHE_MB     MB of the score cache; beyond it, the oldest scores go (default: 2,000)
    has_screen     whether a browser can open here: macOS, Windows, or a display
    on_space       whether this is a Hugging Face Space (SPACE_ID is set)
    """

    home: Path
    models_dir: Path | None = None
    chroma_url: str | None = None
    corpora_dir: Path = BUILT_IN_CORPORA
    hub_endpoint: str = HUB
    hub_offline: bool = False
    device: str = "auto"
    public: bool | None = None  # None: nobody has said, which counts as off
    downloads: bool | None = None
    on_space: bool = False
    int8: bool = False
    model_memory_mb: int = field(default_factory=half_of_memory)
    cache_mb: int = CACHE_MB
    has_screen: bool = False
    opened_corpus: Path | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings; an empty variable counts as unset. Raises InputError for a value that makes no sense."""
        given = {name: value for name, value in environ.items() if value}
        models_dir = given.get("RAG_INSPECT_MODELS_DIR")
        return cls(
            home=_parse_home(given.get("RAG_INSPECT_HOME")),
            models_dir=Path(models_dir).expanduser() if models_dir else None,
            chroma_url=given.get("RAG_INSPECT_CHROMA_URL"),
            corpora_dir=Path(given.get("RAG_INSPECT_CORPORA_DIR") or BUILT_IN_CORPORA).expanduser(),
            hub_endpoint=given.get("HF_ENDPOINT", HUB).rstrip("/"),
            hub_offline=_parse_switch(given.get("HF_HUB_OFFLINE", "")),
            device=given.get("RAG_INSPECT_DEVICE", "auto"),
            public=_parse_choice(given, "RAG_INSPECT_PUBLIC", True if "SPACE_ID" in given else None),
            downloads=_parse_choice(given, "RAG_INSPECT_DOWNLOADS", None),
            on_space="SPACE_ID" in given,
            int8=_parse_switch(given.get("RAG_INSPECT_QUANTIZE", "off")),
            model_memory_mb=_parse_megabytes(given, "RAG_INSPECT_MODEL_MEMORY") or half_of_memory(),
            cache_mb=_parse_megabytes(given, "RAG_INSPECT_CACHE_MB") or CACHE_MB,
            has_screen=sys.platform in {"darwin", "win32"}
            or bool(given.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}),
        )

    @property
    def may_download(self) -> bool:
        """Whether choosing a model may download it."""
        return not self.public if self.downloads is None else self.downloads

    def open_to(self, host: str) -> Settings:
        """Return the settings for listening on this host: public if others can reach it, unless somebody said no."""
        return self if host in THIS_MACHINE or self.public is not None else replace(self, public=True)


def keep_uploads_in(folder: Path) -> None:
    """Let gradio keep uploads and downloads in this folder, unless GRADIO_TEMP_DIR names one. It is the process's."""
    os.environ.setdefault("GRADIO_TEMP_DIR", str(folder))


def _parse_home(value: str | None) -> Path:
    """Return the folder, which need not exist yet. Raises InputError if a file is in its place."""
    home = Path(value or user_cache_path("rag-inspect")).expanduser()
    there = next((path for path in (home, *home.parents) if os.path.lexists(path)), home)
    if os.path.lexists(there) and not there.is_dir():
        named = f"RAG_INSPECT_HOME is {str(home)[:200]!r}" if value else f"the cache folder is {str(home)!r}"
        which = "it" if there == home else str(there)
        raise InputError(
            f"{named}, but {which} is no folder; set RAG_INSPECT_HOME to a folder, or to where one can be made"
        )
    return home


def _parse_choice(given: Mapping[str, str], name: str, default: bool | None) -> bool | None:
    return _parse_switch(given[name]) if name in given else default


def _parse_switch(value: str) -> bool:
    return value.lower() in {"1", "true", "yes", "on"}


def _parse_megabytes(given: Mapping[str, str], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    text = value.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 13 and int(text)):
        raise InputError(f"{name} is {value[:40]!r}; expected a whole number of MB above 0, such as 4000")
    return int(text)


def _read_memory_bytes() -> int | None:
    """Return the memory of this machine or container; None if unknown."""
    known = [_read_windows_memory()]
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    # A container's limit, in cgroup v2 and v1.
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(ValueError, OSError):  # "max": no limit
            known.append(int(Path(limit).read_text()))
    return min((size for size in known if size and size > 0), default=None)


def _read_windows_memory() -> int | None:
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
