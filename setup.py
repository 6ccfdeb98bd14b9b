"""The parts of the build that pyproject.toml cannot say: the C extension and its wheel tag."""

import sys
import sysconfig

from setuptools import setup


def limited_api() -> "str | bool":
    """Return the wheel's abi3 floor; a free-threaded CPython has a stable ABI from 3.15 on."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "cp310"
    return "cp315" if sys.version_info >= (3, 15) else False


setup(
    cffi_modules=["csrc/build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": limited_api()}},
)
