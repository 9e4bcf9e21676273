"""Three programs, retrieval, classification and correlation, and the demo that runs them all."""
