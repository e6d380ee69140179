"""The tests of a cluster of processes."""
