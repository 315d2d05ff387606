"""What ships: a manifest, the model, its golden answers and a runner that needs only onnxruntime."""
