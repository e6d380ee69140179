"""The tests of bench run in the settled environment of all tests; its timings run in the caller's own."""

import environment  # noqa: F401
