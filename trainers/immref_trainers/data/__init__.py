"""Data sets as arrays in memory, and the order in which training sees them."""
