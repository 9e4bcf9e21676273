"""Results: the JSON record of a run, what two records must share to be compared, and tables of records."""
