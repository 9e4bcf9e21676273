"""Readers of the paper's data layouts, and the generated sample in the same layouts."""
