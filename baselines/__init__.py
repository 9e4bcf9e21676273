"""Rivals, as adapters to the contracts of `i0t`."""
