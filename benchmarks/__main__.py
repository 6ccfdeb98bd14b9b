"""The command line of the benchmarks.

A missed target is a result, not a failure: the run ends with 0 as long as every contestant moved
the right bytes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import (
    asgi_files,
    blob_sockets,
    cold_files,
    fanout,
    file_copy,
    file_to_tcp,
    http_serve,
    import_time,
    memory_pipe,
    pipe_relay,
    pipe_relay_gil,
    raw_calls,
    report,
    size_sweep,
    small_files,
    small_work,
    tcp_connect,
    tcp_gil,
    tcp_growth,
    tcp_idle,
    tcp_pingpong,
    tcp_relay,
)
from benchmarks.harness import Options, WrongBytes, measure
from benchmarks.peers import Missing, Peers
from benchmarks.processes import Failed

ROWS = {
    "raw_calls": raw_calls.row,
    "small_work": small_work.row,
    "sweep_file_tcp": size_sweep.file_tcp,
    "sweep_file_unix": size_sweep.file_unix,
    "sweep_socket_file": size_sweep.socket_file,
    "sweep_pipe_pipe": size_sweep.pipe_pipe,
    "pipe_relay": pipe_relay.row,
    "pipe_relay_gil": pipe_relay_gil.row,
    "fanout_1": fanout.one,
    "fanout_3": fanout.three,
    "fanout_16": fanout.sixteen,
    "memory_pipe": memory_pipe.row,
    "blob_sockets": blob_sockets.row,
    "file_to_tcp": file_to_tcp.row,
    "cold_files": cold_files.row,
    "file_copy": file_copy.row,
    "file_copy_small": file_copy.small,
    "small_files_new": small_files.new,
    "small_files_replaced": small_files.replaced,
    "small_files_tree": small_files.tree,
    "small_files_threads": small_files.threads,
    "tcp_relay": tcp_relay.row,
    "tcp_gil": tcp_gil.row,
    "tcp_pingpong_64": tcp_pingpong.small,
    "tcp_pingpong_16k": tcp_pingpong.large,
    "tcp_connect": tcp_connect.row,
    "tcp_idle": tcp_idle.row,
    "tcp_growth": tcp_growth.row,
    "http_1k": http_serve.small,
    "http_64k": http_serve.middle,
    "http_16m": http_serve.large,
    "asgi_1k": asgi_files.small,
    "asgi_64k": asgi_files.middle,
    "asgi_16m": asgi_files.large,
    "asgi_cold": asgi_files.cold,
    "import_time": import_time.row,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="spliceio beside its peers, in one run"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="tiny sizes, nothing installed: proves that the benchmarks run, not speed",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each row (9; smoke: 1)")
    parser.add_argument(
        "--only", action="append", choices=ROWS, metavar="NAME", help=", ".join(ROWS)
    )
    parser.add_argument(
        "--svg", type=Path, metavar="FOLDER", help="draw the sweeps over sizes there"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    args = parser.parse_args()
    if args.rounds is None:
        args.rounds = 1 if args.smoke else 9
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    return args


def main() -> int:
    args = arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spliceio-bench-") as name:
        options = Options(smoke=args.smoke, rounds=args.rounds, workdir=Path(name))
        peers = Peers(options.workdir, install=not args.smoke)
        head = report.about(smoke=args.smoke, rounds=args.rounds)
        machine = head["machine"]
        assert isinstance(machine, dict)
        print(
            f"spliceio {head['spliceio']}, Python {head['python']}, kernel {machine['kernel']}, "
            f"{machine['cores']} x {machine['processor']}, "
            f"load before {machine['load_before']}, {head['date']}"
        )
        print(f"medians of {args.rounds} alternating rounds\n")
        done = []
        for row_name in args.only or ROWS:
            try:
                row = ROWS[row_name](options, peers)
                measure(row, args.rounds)
            except (Failed, WrongBytes, Missing) as why:
                print(f"benchmarks: {row_name}: {why}", file=sys.stderr)
                return 1
            print(report.text(row), flush=True)
            done.append(row)
        if args.svg:
            size_sweep.draw(args.svg, done)
        if args.json:
            report.write(args.json, head, done)
    judged = [
        met
        for row in done
        for target in row.targets
        if (ratio := row.ratio(target)) is not None and (met := target.met(ratio)) is not None
    ]
    print(f"{sum(judged)} of {len(judged)} targets met, in {time.monotonic() - began:.0f} s")
    if args.smoke:
        print("This was a smoke run: the figures above say nothing about speed.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
