"""The tests of raw tables."""
