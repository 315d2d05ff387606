"""How a histogram becomes a range: one calibrator, one file."""
