"""Benchmarks: each program measures a ratio to a named rival, in one run."""

from i0t.interrupts import quiet_interrupts

quiet_interrupts()
