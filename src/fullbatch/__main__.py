"""The command ``fullbatch``, also as ``python -m fullbatch``."""

import gc
import sys


def main() -> int:
    """Run the command. Ctrl-C while Python still imports it ends it as quietly as later.

    What is imported stays to the end, so the collector neither looks at it meanwhile nor when the process ends: that
    was a sixth of the time of a short command.
    """
    from fullbatch.machine.descriptors import open_closed_ones, outlive_stderr

    open_closed_ones()
    outlive_stderr()
    try:
        gc.disable()
        from fullbatch.command.app import main as command

        gc.freeze()
        gc.enable()
        return command()
    except KeyboardInterrupt:
        print("fullbatch: interrupted.", file=sys.stderr)
        return 130
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
