"""Every file is a correction: what brings a quantized model nearer to its float model."""
