"""Sphinx configuration: no network, no import of the package for its version."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))

INIT = (HERE.parent / "spliceio" / "_version.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__(?:: [\w.\[\]]+)? = "([^"]+)"', INIT, re.MULTILINE)
if VERSION is None:
    raise RuntimeError('spliceio/_version.py has no line __version__ = "..."')

project = "spliceio"
copyright = "the spliceio authors"
author = "the spliceio authors"
version = release = VERSION.group(1)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "errnotable",
    "shelltest",
    "publicnames",
]
exclude_patterns = ["_build"]
root_doc = "index"
# Docstrings write `name` for code, as a person reads it in help().
default_role = "code"

myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Shown by their names: the pages say what they stand for.
autodoc_type_aliases = {
    name: name.rpartition(".")[2]
    for name in (
        "AsyncRoute",
        "Listen",
        "Progress",
        "Route",
        "Side",
        "_address.AddressLike",
        "address.AddressLike",
    )
}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# A snippet that hangs ends the build after a minute, with a traceback of every thread.
doctest_global_setup = """
import faulthandler as _faulthandler
import sys as _sys

from shelltest import shell as _shell

_faulthandler.dump_traceback_later(60, exit=True, file=_sys.__stderr__)
"""
doctest_global_cleanup = "_faulthandler.cancel_dump_traceback_later()"

html_theme = "furo"
html_title = f"spliceio {release}"
html_static_path = ["_static"]
html_css_files = ["spliceio.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#00586b",
        "color-brand-content": "#00586b",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5fd0e6",
        "color-brand-content": "#5fd0e6",
    },
}
