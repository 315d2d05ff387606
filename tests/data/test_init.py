from __future__ import annotations

import subprocess
import sys


def test_importing_data_loads_no_heavy_package() -> None:
    code = (
        "import sys, deploypipe.data as d; d.DataRecipe.model_validate('digits');"
        "print([m for m in ('torch','onnxruntime','pyarrow','PIL','sklearn','tokenizers')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_these() -> None:
    import deploypipe.data

    assert set(deploypipe.data.__all__) == {
        "SOURCES", "Batch", "Data", "DataRecipe", "Preprocess", "Raw", "Source", "Split",
        "SplitCounts", "open_data", "open_samples", "source_of",
    }  # fmt: skip
