"""Turns the data sets' files, as their owners publish them, into the paper's layouts.

Entries of `i0t/data/entries.py` name the functions. Nothing is downloaded unless asked, pictures are linked
unless copies are asked for, and whatever is there already stays, so that an interrupted run is simply run again.
"""
