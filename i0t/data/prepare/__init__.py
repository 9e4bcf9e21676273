"""Turns the data sets' files, as their owners publish them, into the paper's layouts.

One module a family, one entry a data set in `registry`. Nothing is downloaded unless asked, pictures are linked
unless copies are asked for, and whatever is there already stays, so that an interrupted run is simply run again.
"""
