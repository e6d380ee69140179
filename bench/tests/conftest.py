"""The tests of bench run in the same settled environment as those of the package; its timings run in the caller's own."""

import environment  # noqa: F401
