"""Ways to quantize, one file each."""
