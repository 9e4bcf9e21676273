"""Measured claims: each program prints its figure as a ratio to a named rival, in one run."""
