"""Runs any module as a program that ends with the one that started it: `python -m local.companion MODULE ARGUMENTS`.

For programs that know nothing of this package, such as simulated partners.
"""

import runpy
import sys

from local.parent import exit_with_parent


def main() -> None:
    """Run the module that the first argument names, with the other arguments."""
    exit_with_parent(grace_seconds=1.0)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
