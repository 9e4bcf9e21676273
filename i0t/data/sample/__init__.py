"""The built-in sample: coloured shapes with captions and ratings, in the real data sets' layouts.

It replaces the real data when no path is configured, and in tests. `make_sample` or
`python -m i0t.data.sample` makes it once; the readers of the real files read it. Its ratings are
constructed, not human.
"""

from i0t.data.sample.writer import SampleSize, data_dir, data_dir_sub, make_sample

__all__ = ["SampleSize", "data_dir", "data_dir_sub", "make_sample"]
