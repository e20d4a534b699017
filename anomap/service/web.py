"""The status page: read-only, small, without names. Flask behind waitress, on this machine unless the settings differ.

/                    queue, archives, newest series with verdict and preview
/jobs/N/preview/K.png
/status.json  /metrics  /health (503 when a part of the node has stopped)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, abort, jsonify, render_template, send_file
from waitress.server import create_server

from anomap.errors import AnomapError
from anomap.service.database import Database
from anomap.service.log import log
from anomap.service.metrics import exposition
from anomap.service.settings import Web
from anomap.service.spool import Spool
from anomap.service.status import previews, snapshot
from anomap.style import COLOURS

_STOP_S = 3.0  # waitress looks up once a second
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(spool: Spool, database: Database, alive: Callable[[], bool]) -> Flask:
    """The page as a WSGI application.

    Args:
        spool: The node's files.
        database: Its job table.
        alive: Whether every part of it works.
    """
    app = Flask(__name__)
    app.jinja_env.filters["moment"] = lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")

    @app.get("/")
    def page() -> str:
        content = snapshot(spool, database)
        pictures = {job["id"]: len(previews(spool, database, job["id"])) for job in content["jobs"]}
        return render_template("status.html", colours=COLOURS, alive=alive(), pictures=pictures, **content)

    @app.get("/jobs/<int:job>/preview/<int:number>.png")
    def preview(job: int, number: int) -> Response:
        found = previews(spool, database, job)
        if not 0 <= number < len(found):
            abort(404)
        return send_file(found[number], mimetype="image/png")

    @app.get("/favicon.ico")
    def icon() -> tuple[str, int]:
        return "", 204  # browsers ask for one, and complain in their console when there is none

    @app.get("/status.json")
    def status() -> Response:
        return jsonify(snapshot(spool, database))

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(exposition(spool, database), mimetype="text/plain; version=0.0.4")

    @app.get("/health")
    def health() -> tuple[str, int]:
        return ("ok\n", 200) if alive() else ("a part of the node has stopped\n", 503)

    @app.after_request
    def headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    return app


class Page:
    """The page with its server.

    Args:
        web: Address and port.
        spool: The node's files.
        database: Its job table.
        alive: Whether every part of it works.

    Raises:
        AnomapError: E200 when the port can't be listened on.
    """

    def __init__(self, web: Web, spool: Spool, database: Database, alive: Callable[[], bool]) -> None:
        app = create_app(spool, database, alive)
        try:
            self._server: Any = create_server(app, host=web.address, port=web.port, threads=2, ident=None)
        except OSError as error:
            raise AnomapError("E200", f"port {web.port} can't be listened on: {error.strerror}") from error
        self._thread = threading.Thread(target=self._server.run, name="web", daemon=True)
        self.port = web.port

    def start(self) -> None:
        """Serve."""
        self._thread.start()
        log("page", port=self.port)

    def stop(self) -> None:
        """End; the port is free again when this returns."""
        self._server.close()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)  # its poll still holds the socket
