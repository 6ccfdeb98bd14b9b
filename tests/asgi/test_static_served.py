"""`StaticFiles` on uvicorn, over sockets: the table of nasty requests, and large files."""

from __future__ import annotations

import contextlib

import pytest

from tests.support import nasty
from tests.support.loops import ending  # noqa: F401
from tests.support.states import until

pytest.importorskip("uvicorn")
from spliceio.asgi import StaticFiles
from tests.support.asgis import parsers, serving


@pytest.fixture(params=parsers())
def parser(request):
    return request.param


@pytest.mark.parametrize("plain", [False, True], ids=["our protocol", "uvicorn's protocol"])
@pytest.mark.parametrize("table", nasty.TABLES)
def test_nasty_requests(tmp_path, parser, table, plain):
    """Each has the status that is right, and the connection is in step afterwards, or closed."""
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(contextlib.closing(StaticFiles(nasty.make_site(tmp_path))))
        server = stack.enter_context(serving(app, parser, plain=plain, timeout_keep_alive=1))
        found = {
            row.name[:100]: wrong
            for row in nasty.TABLES[table]
            if (wrong := nasty.trouble(row, server.connect))
        }
        until(lambda: not server.connections)
    assert found == {}


def test_the_table_is_large():
    """Some two hundred rows, each with a name of its own in its table."""
    assert sum(map(len, nasty.TABLES.values())) > 250
    for rows in nasty.TABLES.values():
        assert len({row.name for row in rows}) == len(rows)
