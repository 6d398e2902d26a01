"""``featureid worker-pool``: start worker processes for a runner."""

from __future__ import annotations

from collections.abc import Sequence

from featureid.cli import console
from featureid.jobs.worker_pool import serve


def make_parser(prog: str) -> console.Parser:
    """Return the parser of the command."""
    parser = console.Parser(
        prog=prog,
        description="Start worker processes for a runner that uses --environment_type=EXTERNAL, "
        "until interrupted or terminated. With a token in the environment variable "
        "FEATUREID_POOL_TOKEN, only for runs that were submitted with the same.",
    )
    parser.add_argument("--host", default="localhost", help="to listen on; default: %(default)s")
    parser.add_argument(
        "--port",
        type=int,
        default=50000,
        metavar="N",
        help="0: any free one; default: %(default)s",
    )
    parser.add_argument(
        "--allow-root",
        action="store_true",
        help="run as root, too; a pool runs any code that it is sent",
    )
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Serve until interrupted or terminated; return the exit status."""
    arguments = make_parser(prog).parse_args(argv)
    serve(arguments.host, arguments.port, arguments.allow_root)
    return console.DONE
