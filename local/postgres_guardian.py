"""The process between a program and its PostgreSQL server: it sees to it that the server does not outlive the program.

    python -I -S postgres_guardian.py UID GID COMMAND...

It runs COMMAND as that account (empty for its own) and listens on its standard input, whose other end only the
program holds. The byte `i` asks for an immediate shutdown; any other byte, and the end of input, for a fast one. The
end of input comes whatever kills the program, on every Unix, which is why this is a pipe and not Linux's
PR_SET_PDEATHSIG. The guardian ends when the server has, with the server's exit code.

It needs nothing but the standard library and is started by its path, so that it begins within milliseconds.
"""

import os
import signal
import subprocess
import sys
import threading

IMMEDIATE = b"i"
FAST = b"f"


def main(arguments: list[str]) -> int:
    """Run the server until it ends, and return its exit code."""
    user, group, *command = arguments
    # The one caller names a server program by its absolute path.
    server = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        user=int(user) if user else None,
        group=int(group) if group else None,
        extra_groups=[] if user else None,
    )
    # A daemon, for it may be blocked in read() when the server has ended on its own.
    threading.Thread(target=_obey, args=(server,), daemon=True).start()
    return server.wait()


def _obey(server: subprocess.Popen[bytes]) -> None:
    """Pass requests to the server until there is nobody left to make them."""
    request = FAST
    while request:
        request = os.read(sys.stdin.fileno(), 1)
        server.send_signal(signal.SIGQUIT if request == IMMEDIATE else signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
