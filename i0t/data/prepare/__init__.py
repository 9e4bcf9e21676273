"""Make the paper's layouts from the files that the data sets' owners publish.

The functions are named in `i0t/data/entries.py`. Nothing is downloaded and images are linked, unless flags say
otherwise. Files that exist are kept, so an interrupted run can simply be run again.
"""
