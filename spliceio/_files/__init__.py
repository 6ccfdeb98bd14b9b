"""Files, whole: `copy_file`, the new file beside the old one, and whom a file belongs to.

Moving the bytes of two open files is `_transfer`'s.
"""
