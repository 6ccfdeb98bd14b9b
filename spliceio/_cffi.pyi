# Compiled by csrc/build_ffi.py from csrc/api.h.
from typing import Any

ffi: Any
lib: Any
