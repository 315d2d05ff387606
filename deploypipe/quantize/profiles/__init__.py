"""What fuses into integer kernels on a target: one target, one file."""
