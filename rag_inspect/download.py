"""Download a model's files from the hub into the Hugging Face cache, whole or not at all.

Uses `huggingface_hub.snapshot_download` at the pinned revision and adds two things: every file is compared with the
checksum that the hub publishes, and nothing enters the cache before the download is complete.
"""

from __future__ import annotations

import errno
import hashlib
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_inspect.deadline import call_in_time
from rag_inspect.errors import ModelError
from rag_inspect.hub import WEIGHTS, first_line, format_size, hub_obstacle, local_folder
from rag_inspect.settings import Settings
from rag_inspect.types import ModelSpec, Progress

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

ANSWER_SECONDS = 10.0  # how long the hub may take to describe a model, however slowly the bytes come


def model_folder(spec: ModelSpec, settings: Settings, on_progress: Progress | None = None) -> Path:
    """Return the folder with the model's files, downloading it first if it is not on disk. Raises ModelError."""
    return local_folder(spec, settings) or fetch(spec, settings, on_progress)


def fetch(spec: ModelSpec, settings: Settings, on_progress: Progress | None = None) -> Path:
    """Download the model at its pinned revision into the Hugging Face cache and return its folder.

    `on_progress` gets bytes; an exception it raises cancels the download. A second process or thread waits for the
    first and uses its files. A failure is a ModelError of one line and leaves no files behind.
    """
    report = on_progress or (lambda done, total, what: None)
    obstacle = hub_obstacle(settings)
    if obstacle:
        raise _make_error(spec, obstacle)
    with _one_at_a_time(spec, report):
        folder = local_folder(spec, settings)
        return folder if folder is not None else _download(spec, settings, report)


# -- one download --------------------------------------------------------------------------------------------


def _download(spec: ModelSpec, settings: Settings, report: Progress) -> Path:
    """Download into a staging folder inside the cache, check the files, then move them to their place in the cache."""
    staging = _staging_folder(spec)
    cancelled: list[BaseException] = []

    def tell(done: int, total: int, what: str) -> None:
        try:
            if not cancelled:
                report(done, total, what)
        except BaseException as error:
            cancelled.append(error)
        if cancelled:  # each file has its own thread, and every thread must end
            raise cancelled[0]

    try:
        shutil.rmtree(staging, ignore_errors=True)  # left by a download that was killed
        hub = f"the hub {settings.hub_endpoint}"
        files = call_in_time(lambda: _list_files(spec, settings), ANSWER_SECONDS, hub)
        _check_space(staging, sum(file.size or 0 for file in files))
        snapshot = _download_snapshot(spec, settings, staging, sum(file.size or 0 for file in files), tell)
        _check_sums(snapshot, files)
        return _install(staging / _storage_name(spec), _cache_folder() / _storage_name(spec), spec.revision)
    except Exception as error:
        if cancelled:
            raise cancelled[0] from None
        raise _make_error(spec, _explain_failure(error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _list_files(spec: ModelSpec, settings: Settings) -> list[RepoSibling]:
    """Ask the hub about the files we need: once, without the library's half minute of retries."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    hub = HfApi(endpoint=settings.hub_endpoint)
    info = hub.model_info(spec.model, revision=spec.revision, files_metadata=True, timeout=ANSWER_SECONDS)
    files = [file for file in info.siblings or [] if file.rfilename in spec.files]
    if not any(file.rfilename in WEIGHTS for file in files):
        raise FileNotFoundError(f"the hub has none of {', '.join(spec.files)} at this revision")
    largest = max(files, key=lambda file: file.size or 0).rfilename
    url = hf_hub_url(spec.model, largest, revision=spec.revision, endpoint=settings.hub_endpoint)
    # The hub describes a gated model to everyone, but refuses its files.
    get_hf_file_metadata(url, timeout=ANSWER_SECONDS, endpoint=settings.hub_endpoint)
    return files


def _download_snapshot(
    spec: ModelSpec, settings: Settings, staging: Path, total: int, report: Progress
) -> Path:
    from huggingface_hub import snapshot_download
    from tqdm import tqdm  # type: ignore[import-untyped]

    what = f"bytes of {spec.model}"

    class ByteReport(tqdm):
        """Turn the progress bars of a snapshot download into calls of `report`; prints nothing itself."""

        monitor_interval = 0  # no thread: there is nothing to refresh

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"file": io.StringIO()})

        def update(self, n: float | None = 1) -> None:
            super().update(n)
            if self.unit == "B":  # another bar counts files
                report(min(int(self.n), total), total, what)

    report(0, total, what)
    folder = snapshot_download(
        spec.model,
        revision=spec.revision,
        cache_dir=staging,
        allow_patterns=list(spec.files),
        endpoint=settings.hub_endpoint,
        tqdm_class=ByteReport,
    )
    report(total, total, what)
    return Path(folder)


def _check_sums(folder: Path, files: list[RepoSibling]) -> None:
    """Compare each file with the hub's checksum: sha256 for a large file, git's sha1 for a small one."""
    for file in files:
        path = folder / file.rfilename
        expected: str | None
        if file.lfs is not None:
            with path.open("rb") as stream:
                found, expected = hashlib.file_digest(stream, "sha256").hexdigest(), file.lfs.sha256
        else:
            raw = path.read_bytes()
            git_object = b"blob %d\0%b" % (len(raw), raw)
            found, expected = hashlib.sha1(git_object, usedforsecurity=False).hexdigest(), file.blob_id
        if expected and found != expected:
            got = f"got {found[:12]}…, the hub publishes {expected[:12]}…"
            raise ValueError(f"{file.rfilename} arrived with the wrong checksum ({got})")


def _check_space(folder: Path, needed: int) -> None:
    existing = next(parent for parent in folder.parents if parent.exists())
    if (free := shutil.disk_usage(existing).free) < needed:
        raise OSError(errno.ENOSPC, f"{format_size(needed)} needed, {format_size(free)} free in {existing}")


def _install(staged: Path, storage: Path, revision: str) -> Path:
    """Move the download into the cache. The snapshot folder comes last: only then does the cache have the model."""
    folder = storage / "snapshots" / revision
    for kind in ("blobs", "trees"):
        for file in (staged / kind).glob("*"):
            (storage / kind).mkdir(parents=True, exist_ok=True)
            file.resolve().replace(storage / kind / file.name)
    shutil.rmtree(folder, ignore_errors=True)  # a partial download by another tool
    folder.parent.mkdir(parents=True, exist_ok=True)
    return (staged / "snapshots" / revision).replace(folder)


# -- the cache -----------------------------------------------------------------------------------------------


def _cache_folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def _storage_name(spec: ModelSpec) -> str:
    return f"models--{spec.model.replace('/', '--')}"


def _staging_folder(spec: ModelSpec) -> Path:
    return _cache_folder() / f".rag-inspect-{_storage_name(spec)}"


def _count_arrived_bytes(staged: Path) -> int:
    """Count the bytes another process has downloaded; 0 while it moves them into place."""
    try:
        return sum(file.stat().st_size for file in staged.rglob("blobs/*") if file.is_file())
    except FileNotFoundError:
        return 0


@contextmanager
def _one_at_a_time(spec: ModelSpec, report: Progress) -> Iterator[None]:
    """Hold the lock on this model's download; while another process holds it, report that one's progress."""
    from filelock import FileLock, Timeout

    path = _cache_folder() / ".locks" / f"rag-inspect-{_storage_name(spec)}.lock"
    lock = FileLock(path)
    while not lock.is_locked:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0.5)
        except Timeout:
            done = _count_arrived_bytes(_staging_folder(spec))
            report(
                min(done, spec.download_bytes),
                spec.download_bytes,
                f"bytes of {spec.model}, downloaded by another process",
            )
        except OSError as error:
            raise _make_error(spec, _explain_failure(error)) from error
    try:
        yield
    finally:
        lock.release()


# -- failures -------------------------------------------------------------------------------


def _make_error(spec: ModelSpec, cause: str) -> ModelError:
    built_in = "mini" if spec.kind == "reranker" else "minilm"
    return ModelError(
        f"{spec.key} ({spec.model} at {spec.revision[:8]}): {cause}; "
        f"use {built_in}, which needs no download, or put the model into RAG_INSPECT_MODELS_DIR/{spec.model}"
    )


def _explain_failure(error: BaseException) -> str:
    """Explain a failed download in one line, from the causes inside the exception."""
    link: BaseException | None = error
    while link is not None:
        status = getattr(getattr(link, "response", None), "status_code", None)
        if status in {401, 403}:
            return f"the hub refuses access ({status}; a gated or private model needs HF_TOKEN)"
        if status is not None:
            meaning = "has no such model or revision" if status == 404 else "answered with an error"
            return f"the hub {meaning} ({status})"
        if isinstance(link, OSError) and link.errno == errno.ENOSPC:
            return f"no space left for the Hugging Face cache ({first_line(link)})"
        if isinstance(link, PermissionError):
            return f"the Hugging Face cache cannot be written ({first_line(link)})"
        link = link.__cause__ or link.__context__
    return f"the download failed ({first_line(error)})"
