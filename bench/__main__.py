"""``python -m bench``: the command of command.py."""

import sys

from bench.forced import take_away


def main() -> int:
    """Run the command. Ctrl-C while Python still imports it ends it as quietly as later."""
    take_away()
    try:
        from bench.command import main as command

        return command()
    except KeyboardInterrupt:
        print("bench: interrupted.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
