"""Entry point of the command line: `spliceio`, or `python -m spliceio`.

Behaves as a Unix tool: errors are one line on standard error, the status is 1 for a failure, 2 for
wrong usage, 130 after Ctrl-C, and a reader that goes away ends it quietly (141, as a shell shows
the death by SIGPIPE).
"""

from __future__ import annotations

import os
import sys

from . import progress, signals, standard
from .parser import USAGE, parser
from .standard import BROKEN_PIPE, STDOUT
from .tee_options import spelled_out

FAILURE, INTERRUPTED = 1, 130


def error_text(error: OSError) -> str:
    """Return the message of an exception, as a Unix tool prints it."""
    text = error.strerror or str(error)
    return f"{os.fsdecode(error.filename)}: {text}" if error.filename is not None else text


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status.

    Without `argv` it is the program: it takes sys.argv, and reserves the numbers of closed standard
    streams. With `argv` it is a call in another program, and leaves them alone.
    """
    who, needed = "spliceio", [STDOUT]  # what --help and --version need
    is_program = argv is None
    try:
        if is_program:
            standard.reserve_closed()
        words = sys.argv[1:] if argv is None else argv
        args, unknown = parser().parse_known_args(spelled_out(words))
        if unknown:
            args.usage_error(f"unrecognized arguments: {' '.join(unknown)}")
        who, needed = f"spliceio: {args.name}", [*args.needs(args)]
        standard.require(needed)
        if getattr(args, "progress", False):
            progress.require_rich()
        args.run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except signals.Killed as killed:
        killed.die()
    except BrokenPipeError as error:
        if error.filename is None and STDOUT in needed:
            if is_program:
                standard.discard_stdout()
            return BROKEN_PIPE
        progress.say(f"{who}: {error_text(error)}")
        return FAILURE
    except OSError as error:
        progress.say(f"{who}: {error_text(error)}")
        return FAILURE
    except (ValueError, TypeError) as error:
        progress.say(f"{who}: {error}")
        return FAILURE
    except progress.MissingExtra as error:
        progress.say(f"{who}: {error}")
        return USAGE
    return 0
