"""Torch -> ONNX, and the proof that both answer alike."""
