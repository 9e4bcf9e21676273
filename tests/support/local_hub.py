"""A hub of Hugging Face on this machine, with one repository: the files of a folder."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "1" * 40


@contextlib.contextmanager
def local_hub(repository: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(address, requests so far) of a hub that has `repository`."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            requests.append(f"{self.command} {self.path}")
            path = folder / self.path.rpartition("/")[2]
            known = self.path.startswith(f"/{repository}/resolve/")
            found = known and path.is_file()
            listed = self.path.startswith(f"/api/models/{repository}/tree/")  # folders, of which there are none
            content = path.read_bytes() if found else b"[]" if listed else b""
            self.send_response(200 if found or listed or self.path == "/" else 404)
            self.send_header("Content-Length", str(len(content)))
            if found:
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            else:
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
