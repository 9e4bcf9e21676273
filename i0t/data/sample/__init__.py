"""The built-in sample: coloured shapes with captions and judgments, in the real data sets' layouts.

It stands in for the real data when no path is configured, and in tests. Made once by `make_sample`
or `python -m i0t.data.sample`, then read by the very code that reads the real files. The ratings in
it are constructed, not human.
"""

from i0t.data.sample.writer import SampleSize, data_dir, data_dir_sub, make_sample

__all__ = ["SampleSize", "data_dir", "data_dir_sub", "make_sample"]
