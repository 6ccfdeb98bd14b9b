"""Tables that tests can hold: rows live in ``docs/_data``, pages only show them.

``errnotable`` shows the rows of errnos.toml for one call, ``blockingtable``
those of blocking.toml. A row whose ``case`` is empty was not run on a kernel
by the test suite; its ``source`` says where the fact comes from instead.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; Sphinx itself requires tomli there
    import tomli as tomllib

DATA = Path(__file__).resolve().parent.parent / "_data"

Row = dict[str, str]


def rows(file: str, call: str) -> list[Row]:
    """The rows of one data file that belong to one call, checked for sense."""
    with (DATA / file).open("rb") as source:
        found = [row for row in tomllib.load(source)["row"] if row["call"] == call]
    if not found:
        raise ValueError(f"{file} has no row for {call}")
    for row in found:
        if not row["case"] and row.get("source", "") in ("", "seen"):
            raise ValueError(f"{file}: a row of {call} has neither case nor source: {row}")
        if "errno" in row and not hasattr(errno, row["errno"]):
            raise ValueError(f"{file}: {row['errno']} is no errno")
    return found


class _Table(SphinxDirective):
    required_arguments = 1
    file: str
    css: str
    columns: tuple[tuple[str, int], ...]

    def cells(self, row: Row) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        path = DATA / self.file
        self.env.note_dependency(str(path))
        group = nodes.tgroup(cols=len(self.columns))
        group += [nodes.colspec(colwidth=width) for _, width in self.columns]
        head, body = nodes.thead(), nodes.tbody()
        head += self._row([title for title, _ in self.columns])
        body += [self._row(self.cells(row)) for row in rows(self.file, self.arguments[0])]
        group += [head, body]
        table = nodes.table("", group, classes=[self.css, "colwidths-given"])
        return [table]

    def _row(self, texts: list[str]) -> nodes.row:
        row = nodes.row()
        for text in texts:
            entry = nodes.entry()
            self.state.nested_parse(StringList([text], str(DATA / self.file)), 0, entry)
            row += entry
        return row


class ErrnoTable(_Table):
    file = "errnos.toml"
    css = "errnos"
    columns = (("errno", 14), ("cause", 43), ("what to do", 43))

    def cells(self, row: Row) -> list[str]:
        cause = row["cause"]
        if not row["case"]:
            cause += f" *(from {row['source']}, not run by the test suite)*"
        return [f"`{row['errno']}`", cause, row["way_out"]]


class BlockingTable(_Table):
    file = "blocking.toml"
    css = "blocking"
    columns = (("situation", 46), ("made nonblocking by", 38), ("result", 16))

    def cells(self, row: Row) -> list[str]:
        return [row["situation"], row["by"], row["result"]]


def setup(app: Sphinx) -> dict[str, Any]:
    directives: dict[str, type[Directive]] = {
        "errnotable": ErrnoTable,
        "blockingtable": BlockingTable,
    }
    for name, directive in directives.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
