"""A page on loopback while a command runs: made anew for each request, nothing is taken in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hil.errors import HilError, UsageError

HOST = "127.0.0.1"
HTTP_PORT = 80  # which browsers leave out
REFRESH_S = 10
_REFRESH = f'<meta charset="utf-8">\n<meta http-equiv="refresh" content="{REFRESH_S}">'
_PROBLEM = f"<!DOCTYPE html>\n{_REFRESH}\n<title>munas-hil</title>\n<p>{{}}</p>\n"


@contextlib.contextmanager
def live_page(port: int, make: Callable[[], str]) -> Iterator[str]:
    """Serve what `make` returns, an HTML document, at the address that is given, until the end of the block.

    `port` 0 takes a free one. A browser asks again every ten seconds. Raises UsageError for a port that is in use.
    """

    class Handler(BaseHTTPRequestHandler):
        """Answers requests for the page, by the loopback's own names only."""

        def do_GET(self) -> None:
            if self.headers.get("Host", "") not in names:  # some page elsewhere whose name leads here
                self.send_error(403)
            elif self.path != "/":
                self.send_error(404)
            else:
                self._answer()

        def _answer(self) -> None:
            try:
                status, page = 200, make().replace('<meta charset="utf-8">', _REFRESH, 1)
            except (HilError, OSError) as error:  # asked again all the same: before the first trial there is no store
                status, page = 503, _PROBLEM.format(escape(str(error)))
            content = page.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            with contextlib.suppress(OSError):  # the browser has gone
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """The command's own output is what people read."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UsageError(f"--serve {port}: {error.strerror}; take another port, or 0 for any") from error
    ports = ["", f":{server.server_port}"] if server.server_port == HTTP_PORT else [f":{server.server_port}"]
    names = {f"{host}{port}" for host in (HOST, "localhost") for port in ports}
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="live page", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
