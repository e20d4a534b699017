"""The server of the page: on loopback, for browsers that came to this address and no other.

POST /upload      files from the page
GET  /report.zip  the DICOM objects of the result shown
everything else   trame
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import BodyPartReader, web
from trame.app import get_server

from anomap.console import print_line
from anomap.errors import AnomapError
from anomap.viewer.app import Application
from anomap.viewer.page import build_page
from anomap.viewer.views import Views

ADDRESS = "127.0.0.1"
_NAMES = {ADDRESS, "localhost", "::1"}
_CHUNK = 2**20
_STOP_S = 5.0
# trame compiles its templates in the browser ('unsafe-eval') and shows pictures as blobs. Nothing comes from elsewhere.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; connect-src 'self' "
    "ws://127.0.0.1:* ws://localhost:*; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def serve(source: Path | None, port: int, models: Path, *, open_browser: bool, debug: bool) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        source: What to open at the start.
        port: Where to listen; 0: a free port.
        models: Folder of bundles.
        open_browser: Whether to show the page.
        debug: Print tracebacks.

    Raises:
        AnomapError: E200 when the port can't be listened on.
    """
    with suppress(KeyboardInterrupt):  # where the event loop knows no signals
        asyncio.run(_serve(source, port, models, open_browser=open_browser, debug=debug))


async def _serve(source: Path | None, port: int, models: Path, *, open_browser: bool, debug: bool) -> None:
    os.environ["TRAME_ARGS"] = "--server"  # else trame reads our command line, and opens the browser by itself
    os.environ["WSLINK_READY_MSG"] = ""  # it would go to stdout
    server = get_server("anomap", client_type="vue3")
    views = Views(server, debug=debug)
    application = Application(server, views, models, debug=debug)
    build_page(server, views, application)
    server.controller.on_server_bind.add(lambda bound: _prepare(bound.app, application))
    asyncio.get_running_loop().set_exception_handler(let_go)
    logging.getLogger("wslink.protocol").addFilter(is_no_farewell)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    running = asyncio.ensure_future(
        server.start(
            port=port, host=ADDRESS, exec_mode="coroutine", thread=True, timeout=0, show_connection_info=False,
            disable_logging=True,
        )
    )  # fmt: skip
    try:
        ready = asyncio.ensure_future(_announce(server, open_browser=open_browser))
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            _explain(running.exception(), port)
        if source is not None:
            application.open(source)
        await asyncio.wait({running, asyncio.ensure_future(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            _explain(running.exception(), port)
    finally:
        application.close()
        with suppress(TimeoutError):  # a browser that doesn't let go
            await asyncio.wait_for(server.stop(), _STOP_S)


def let_go(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A page that is closed while something is on its way to it is no error; wslink leaves it to the loop to complain.

    Args:
        loop: The event loop, whose own handler has the rest.
        context: See `asyncio.loop.call_exception_handler`.
    """
    if not isinstance(context.get("exception"), ConnectionResetError):
        loop.default_exception_handler(context)


def is_no_farewell(_: logging.LogRecord) -> bool:
    """Whether a record is made of something else than a page that was closed while wslink answered it."""
    return not isinstance(sys.exc_info()[1], ConnectionResetError)


async def _announce(server: Any, *, open_browser: bool) -> None:
    await server.ready
    url = f"http://{ADDRESS}:{server.port}/"
    print_line(f"anomap viewer on {url} (Ctrl-C ends it)")
    if open_browser:
        await asyncio.to_thread(webbrowser.open, url)


def _explain(error: BaseException | None, port: int) -> None:
    if isinstance(error, OSError):
        raise AnomapError("E200", f"port {port} can't be listened on: {os.strerror(error.errno or 0)}") from error
    if error is not None:
        raise error


def _prepare(app: web.Application, application: Application) -> None:
    app.middlewares.extend((only_from_here, let_go_of_sockets))
    app.on_response_prepare.append(_add_headers)

    async def upload(request: web.Request) -> web.Response:
        if application.busy:
            return web.Response(status=409)
        folder = application.upload_folder()
        count = 0
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                return web.Response(status=400)
            with (folder / f"{count:06d}").open("wb") as file:
                while chunk := await part.read_chunk(_CHUNK):
                    file.write(chunk)
            count += 1
        task = application.open(folder / "000000" if count == 1 else folder)
        if task is None:
            return web.Response(status=409)
        await task
        return web.Response(status=204)

    async def report(_: web.Request) -> web.Response:
        try:
            content = application.report()
        except ValueError as error:  # the logic's one line for people
            return web.Response(status=410, text=f"{error}\n")
        if content is None:
            raise web.HTTPNotFound
        name = {"Content-Disposition": 'attachment; filename="anomap-report.zip"'}
        return web.Response(body=content, content_type="application/zip", headers=name)

    app.add_routes([web.post("/upload", upload), web.get("/report.zip", report)])


@web.middleware
async def only_from_here(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse what comes by another name of this machine (DNS rebinding) or from another page (its Origin)."""
    host = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    if urlsplit(f"//{host}").hostname not in _NAMES or (origin is not None and urlsplit(origin).netloc != host):
        return web.Response(status=403, text="This page is for this machine only: open it as localhost.\n")
    answer: web.StreamResponse = await handler(request)
    return answer


@web.middleware
async def let_go_of_sockets(request: web.Request, handler: Any) -> web.StreamResponse:
    """A page that is closed while its socket answers is no error; wslink leaves it to aiohttp to complain."""
    try:
        answer: web.StreamResponse = await handler(request)
    except ConnectionResetError:
        return web.Response()  # nobody is there to read it, and aiohttp knows that
    return answer


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
