"""In- and out-painting with a finished run, without further training (Section 4.4, Table 1, Figure 9)."""
