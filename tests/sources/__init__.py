"""The tests of where examples come from."""
