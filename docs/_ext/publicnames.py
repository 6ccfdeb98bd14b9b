"""Cross-references by the public name, whatever module a class is written in.

Annotations may carry the module of definition (``spliceio._proxy.sniff.MORE``);
the reference documents ``spliceio.MORE``. Names of the standard library
stay plain text: the site is built without network, so without inventories.
So do the few names that only annotations use; reference/syscalls says what
they stand for.

autodoc reads the docstrings below attributes, and the order of members, in the
file of the module that a class says it is of: the package, which has none.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer

import spliceio

ONLY_IN_ANNOTATIONS = {
    "AddressLike",
    "AsyncRoute",
    "Buffer",
    "FileDescriptorLike",
    "HasFileno",
    "Listen",
    "Probe",
    "Progress",
    "ReadTransport",
    "Route",
    "Side",
    "StreamReader",
    "StreamWriter",
    "SupportsRead",
    "SupportsWrite",
    "TaskStatus",
    "Transport",
    "WriteTransport",
    "_Block",
}


def parseable(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    args: str | None,
    ret: str | None,
) -> tuple[str | None, str | None]:
    """Put back what Sphinx shows of its own: a default_factory, an alias within a union."""
    if args:
        args = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", args.replace("<factory>", "..."))
    return args, ret


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    package, _, rest = target.partition(".")
    if package in sys.stdlib_module_names and rest:
        return contnode
    if target.rpartition(".")[2] in ONLY_IN_ANNOTATIONS:
        return contnode
    if package == "spliceio" and rest.startswith("_") and "." in rest:
        target = "spliceio." + re.sub(r"^_\w+\.\w+\.", "", rest)
    elif rest.startswith("asgi._"):
        target = "spliceio.asgi." + target.rpartition(".")[2]
    elif "." not in target:
        target = "spliceio." + target
    domain = env.domains.python_domain
    found = domain.find_obj(env, None, None, target, None)
    if not found:
        return None
    name, entry = found[0]
    return _reference(app, node["refdoc"], entry, name, contnode)


def _reference(
    app: Sphinx, doc: str, entry: Any, name: str, contnode: nodes.TextElement
) -> nodes.reference:
    uri = app.builder.get_relative_uri(doc, entry.docname)
    return nodes.reference(
        "", "", contnode, internal=True, refuri=f"{uri}#{entry.node_id}", reftitle=name
    )


def read_sources(app: Sphinx) -> None:
    """Give the analyzer of the package what is written in the files of its public classes."""
    package = ModuleAnalyzer.for_module("spliceio")
    package.analyze()
    for module in spliceio._WHERE:
        written = ModuleAnalyzer.for_module(f"spliceio.{module}")
        written.analyze()
        package.attr_docs.update(written.attr_docs)
        package.tagorder.update(written.tagorder)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", parseable)
    app.connect("builder-inited", read_sources)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
