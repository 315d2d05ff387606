"""What shows that two graphs are one function: float64, whole numbers, and the deploy dtype.

Nothing in here knows how the channels were chosen; numpy and onnx.reference are all it needs.
"""
