"""The command ``fullbatch``, also as ``python -m fullbatch``."""

import sys


def main() -> int:
    """Run the command. Ctrl-C while Python still imports it ends it as quietly as later."""
    from fullbatch.machine.descriptors import open_closed_ones, outlive_stderr

    open_closed_ones()
    outlive_stderr()
    try:
        from fullbatch.command.app import main as command

        return command()
    except KeyboardInterrupt:
        print("fullbatch: interrupted.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
