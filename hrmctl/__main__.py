"""The `hrmctl` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; `--version` answers without looking for plugins."""
    if sys.argv[1:] == ["--version"]:
        from hrmctl import __version__

        try:
            print(f"hrmctl {__version__}", flush=True)
        except OSError as error:
            from hrmctl.cli import unwritable

            sys.exit(unwritable(error))
        return
    from hrmctl.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
