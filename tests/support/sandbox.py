"""A seccomp filter: from then on the kernel refuses some system calls to this process."""

from __future__ import annotations

import ctypes
import os
import struct


def refuse(rules: list[tuple[int, int]]) -> None:
    """Let the calls of these numbers fail, each with its errno, in threads made from now on too."""
    program = struct.pack("HBBI", 0x20, 0, 0, 0)
    for number, err in rules:
        program += struct.pack("HBBI", 0x15, 0, 1, number)
        program += struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | err)
    program += struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    memory = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.c_char_p(head), 0, 0) == 0, os.strerror(ctypes.get_errno())
