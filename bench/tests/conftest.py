"""The tests of bench run in the settled environment of all tests; its timings run in the caller's own."""

from environment import environment_stays  # noqa: F401
