"""Results: JSON records, comparison of their protocols, and tables."""
