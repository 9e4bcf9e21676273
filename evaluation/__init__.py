"""The evaluation programs (retrieval, classification, correlation), tables of their records, and the demo."""
