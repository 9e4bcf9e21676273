"""The evaluation programs (retrieval, classification, correlation), tables of their records, and the demo."""

from i0t.program import quiet_interrupts

quiet_interrupts()
