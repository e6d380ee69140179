"""The sum over blocks, and where it runs."""
