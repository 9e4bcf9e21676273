"""The systems we compare with, each a small adapter to the contracts of `i0t`."""
