"""What the event loop says of pages that have gone, and of everything else."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from aiohttp import ClientConnectionResetError

from anomap.viewer.server import let_go


@pytest.mark.parametrize(
    ("error", "told"),
    [(ClientConnectionResetError("Cannot write to closing transport"), False), (ValueError("a defect"), True)],
)
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
