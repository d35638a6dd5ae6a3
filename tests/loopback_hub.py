"""A model hub on 127.0.0.1 that answers `snapshot_download` as huggingface.co does, and fails on request."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

Failure = Literal["404", "401", "403", "500", "cut", "cut once", "wrong bytes", "gated"]
CHUNK = 16 * 1024
LARGE = (".safetensors", ".bin")  # these are in LFS: they have a sha256 and a second address


@dataclass
class LoopbackHub:
    """What the hub serves, how it fails (`failure`), how slow it is, and its requests as "GET /path" lines."""

    endpoint: str
    folders: dict[tuple[str, str], Path] = field(default_factory=dict)
    failure: Failure | None = None
    seconds_a_chunk: float = 0.0
    asked: list[str] = field(default_factory=list)
    cuts: int = 0

    def serve(self, model: str, revision: str, folder: Path) -> None:
        self.folders[model, revision] = folder

    def count_requests(self, part: str, method: str = "GET") -> int:
        """Count the requests with this method and this text in the path."""
        return sum(line.startswith(method) and part in line for line in self.asked)


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    """Run a hub on a free port until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    server.hub = LoopbackHub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub  # type: ignore[attr-defined]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if path == "/":
            return self.send_json({})
        if self.hub.failure in {"404", "401", "403", "500"}:
            return self.send_json({"error": "as asked"}, int(self.hub.failure))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self.describe("/".join(parts[2:4]), parts[4], parts[5])
        if parts[0] == "lfs":
            return self.send_file(Path(*parts[1:]).name)
        if parts[2:3] != ["resolve"]:
            return self.send_json({"error": "nothing here"}, 404)
        model, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        folder = self.hub.folders.get((model, revision))
        if folder is None or not (folder / name).is_file():
            return self.send_json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        if self.hub.failure == "gated":
            return self.send_json({"error": "restricted"}, 403, {"X-Error-Code": "GatedRepo"})
        return self.resolve(folder / name, revision)

    def describe(self, model: str, kind: str, revision: str) -> None:
        """/api/models/<model>/revision/<revision> and /api/models/<model>/tree/<revision>."""
        folder = self.hub.folders.get((model, revision))
        if folder is None:
            return self.send_json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        entries = [entry(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
        if kind == "tree":
            return self.send_json(entries)
        siblings = [
            {"rfilename": e["path"], "size": e["size"], "blobId": e["oid"]}
            | (
                {"lfs": {"sha256": e["lfs"]["oid"], "size": e["size"], "pointerSize": 134}}
                if "lfs" in e
                else {}
            )
            for e in entries
        ]
        return self.send_json({"id": model, "sha": revision, "siblings": siblings})

    def resolve(self, path: Path, revision: str) -> None:
        """Send a small file at once; for a large one, redirect to its bytes."""
        raw = path.read_bytes()
        headers = {"X-Repo-Commit": revision, "ETag": f'"{git_sha1(raw)}"'}
        if not path.name.endswith(LARGE):
            return self.send_bytes(raw, headers)
        sha256 = hashlib.sha256(raw).hexdigest()
        headers |= {"X-Linked-Size": str(len(raw)), "X-Linked-ETag": f'"{sha256}"'}
        elsewhere = self.hub.endpoint.replace(
            "127.0.0.1", "localhost"
        )  # another host, like the storage of the real hub
        return self.send_json({}, 302, headers | {"Location": f"{elsewhere}/lfs/{sha256}"})

    def send_file(self, sha256: str) -> None:
        """Send a large file, from the offset that a resumed download asks for."""
        files = (path for folder in self.hub.folders.values() for path in folder.rglob("*"))
        raw = next(
            raw for path in files if path.name.endswith(LARGE) and sha(raw := path.read_bytes()) == sha256
        )
        self.send_bytes(raw, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})

    def send_bytes(self, raw: bytes, headers: dict[str, str]) -> None:
        large, failure = "Accept-Ranges" in headers, self.hub.failure
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        status = 206 if start else 200
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(raw) - 1}/{len(raw)}"
        body = raw[start:]
        if large and failure == "wrong bytes":
            body = bytes(len(body))
        self.send_head(status, headers | {"Content-Length": str(len(body))})
        if self.command == "HEAD":
            return
        if large and (failure == "cut" or (failure == "cut once" and not self.hub.cuts)):
            self.hub.cuts += 1
            body = body[: max(0, len(raw) // 2 - start)]
            self.close_connection = True
        for at in range(0, len(body), CHUNK):
            time.sleep(self.hub.seconds_a_chunk if large else 0)
            self.wfile.write(body[at : at + CHUNK])

    def send_json(self, document: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(document).encode()
        self.send_head(
            status, (headers or {}) | {"Content-Type": "application/json", "Content-Length": str(len(raw))}
        )
        if self.command != "HEAD":
            self.wfile.write(raw)

    def send_head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the client has left
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None: ...


def entry(folder: Path, path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    found = {
        "type": "file",
        "path": path.relative_to(folder).as_posix(),
        "size": len(raw),
        "oid": git_sha1(raw),
    }
    lfs = {"lfs": {"oid": sha(raw), "size": len(raw), "pointerSize": 134}}
    return found | (lfs if path.name.endswith(LARGE) else {})


def sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def git_sha1(raw: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(raw), raw)).hexdigest()
