"""Whole files: `copy_file`, atomic replacement, metadata and access rights.

Moving the bytes of two open files is `_transfer`'s.
"""
