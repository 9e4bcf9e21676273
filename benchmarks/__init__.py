"""Benchmarks: each program measures a ratio to a named rival, in one run."""
