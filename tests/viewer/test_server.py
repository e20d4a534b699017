"""What the event loop says of pages that have gone, and of everything else."""

from __future__ import annotations

import asyncio
import gc
import logging
from types import SimpleNamespace

import pytest
from aiohttp import ClientConnectionResetError, ClientSession, web
from wslink import register
from wslink.protocol import WslinkHandler
from wslink.websocket import ServerProtocol

from anomap.viewer.server import is_no_farewell, let_go, let_go_of_sockets

ERRORS = pytest.mark.parametrize(
    ("error", "told"),
    [(ClientConnectionResetError("Cannot write to closing transport"), False), (ValueError("a defect"), True)],
)


@ERRORS
def test_only_a_page_that_has_gone_is_passed_over(
    error: Exception, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise error

    async def leave_it() -> None:
        asyncio.get_running_loop().set_exception_handler(let_go)
        task = asyncio.ensure_future(fails())
        await asyncio.sleep(0)
        del task
        gc.collect()

    with caplog.at_level(logging.ERROR, "asyncio"):
        asyncio.run(leave_it())
    assert ("never retrieved" in caplog.text) is told


@pytest.mark.parametrize("told", [False, True])
def test_a_page_that_goes_while_its_socket_answers_is_passed_over(told: bool, caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            await socket.receive()  # as wslink does, the answer comes whether or not the page is still there
            assert request.transport is not None
            request.transport.abort()
            if told:
                raise ValueError("a defect")
            await socket.send_bytes(b"\0" * 2**20)
        finally:
            ended.set()
        raise AssertionError("the socket was still there")

    async def run() -> None:
        app = web.Application(middlewares=[let_go_of_sockets])
        app.add_routes([web.get("/ws", answer)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with ClientSession() as browser, browser.ws_connect(f"http://127.0.0.1:{port}/ws") as page:
            await page.send_str("a question")
            await page.receive()
        await asyncio.wait_for(ended.wait(), 30)
        await runner.cleanup()

    with caplog.at_level(logging.ERROR, "aiohttp.server"):
        asyncio.run(run())
    assert ("Error handling request" in caplog.text) is told


class Asked(ServerProtocol):
    """What a page may ask for."""

    @register("anomap.test")
    def answer(self) -> int:
        """Something to send."""
        return 1


@ERRORS
def test_a_page_that_goes_before_its_answer_is_passed_over_by_wslink(
    error: Exception, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def send_bytes(_: bytes) -> None:
        raise error

    async def ask() -> None:
        handler = WslinkHandler(Asked(), SimpleNamespace(last_active_client_id=None))
        handler.connections["page"] = SimpleNamespace(closed=False, send_bytes=send_bytes)
        handler.authentified_client_ids.add("page")
        with pytest.raises(type(error)):
            await handler.onCompleteMessage({"id": "rpc:1", "method": "anomap.test"}, "page")

    logger = logging.getLogger("wslink.protocol")
    logger.addFilter(is_no_farewell)
    try:
        with caplog.at_level(logging.ERROR, "wslink.protocol"):
            asyncio.run(ask())
    finally:
        logger.removeFilter(is_no_farewell)
    assert ("Traceback" in caplog.text) is told
