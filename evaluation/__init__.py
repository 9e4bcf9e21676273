"""The evaluation programs (retrieval, classification, correlation), tables of their records, and the demo."""

from i0t.interrupts import quiet_interrupts

quiet_interrupts()
