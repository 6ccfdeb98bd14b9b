# Compiled by csrc/build_ffi.py from csrc/spliceio.h.
from typing import Any

ffi: Any
lib: Any
