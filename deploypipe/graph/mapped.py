"""Weights of a large model that stay in its data files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from deploypipe.core.mapped import mapped_array


class MappedTensor(ir.Tensor[np.ndarray]):
    """A weight at ``offset`` of the file ``location`` below ``folder``, read when it is looked at."""

    def __init__(self, outside: ir.ExternalTensor, folder: Path, location: str) -> None:
        self.folder, self.location, self.offset = folder, location, outside.offset or 0
        super().__init__(
            mapped_array(
                folder / location, self.offset, outside.dtype.numpy(), outside.shape.numpy()
            ),
            dtype=outside.dtype,
            name=outside.name,
            doc_string=outside.doc_string,
            metadata_props=dict(outside.metadata_props),
        )

    def reference(self, name: str) -> ir.ExternalTensor:
        """The same for a runtime that reads the file itself."""
        return ir.ExternalTensor(
            self.location, self.offset, self.nbytes, self.dtype, shape=self.shape, name=name
        )
