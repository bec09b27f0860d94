"""The process that ends what a test process has started, if that one is killed and can no longer do it itself.

Its standard input is a pipe whose other end only the test process holds. A line `+ID` puts a process group into its
care, `-ID` releases it; at the end of input, which comes whatever kills the test process, the groups are killed that
are still in its care. It needs nothing but the standard library and is started by its path.
"""

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Keep the list until nobody is left to change it, then kill what is on it."""
    groups: set[int] = set()
    for line in sys.stdin:
        change = groups.add if line.startswith("+") else groups.discard
        change(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
