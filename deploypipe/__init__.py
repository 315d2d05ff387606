"""deploypipe: a trained torch model in, a smaller, faster and verified ONNX bundle out."""

import os

# ONNX Runtime's official builds send telemetry unless this is set before they initialise.
# Export ORT_DISABLE_TELEMETRY=0 to turn it back on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
