"""Options of `spliceio tee`, reordered so that argparse can parse them.

coreutils tee takes options between the files, a MODE only after `=`, and the beginning of a name
for the whole. argparse has no such optional value, and stops looking for files at an option.
"""

from __future__ import annotations

import itertools

__all__ = ["MODES", "spelled_out"]

MODES = ("warn-nopipe", "warn", "exit-nopipe", "exit")
_OUTPUT_ERROR = "--output-error"
_WITH_VALUE = ("--on-slow", "--stall-timeout", "--hash")


def spelled_out(argv: list[str]) -> list[str]:
    """Return the arguments with the options of `tee` first, and their modes whole."""
    if argv[:1] != ["tee"]:
        return argv
    options: list[str] = []
    files: list[str] = []
    words = iter(argv[1:])
    for word in words:
        if word == "--":
            files += words
        elif word == "-" or not word.startswith("-"):
            files.append(word)
        else:
            options.append(_whole(word))
            if len(word) > 2 and any(option.startswith(word) for option in _WITH_VALUE):
                options += itertools.islice(words, 1)
    return ["tee", *options, "--", *files]


def _whole(option: str) -> str:
    """Write out `--output-error` and its mode, which is the first of MODES when there is none."""
    name, equals, mode = option.partition("=")
    if len(name) < len("--ou") or not _OUTPUT_ERROR.startswith(name):
        return option
    if not equals:
        return f"{_OUTPUT_ERROR}={MODES[0]}"
    meant = [known for known in MODES if known.startswith(mode)]
    if mode not in MODES and len(meant) == 1:
        mode = meant[0]
    return f"{_OUTPUT_ERROR}={mode}"
