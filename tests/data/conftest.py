from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Bytes of a small image whose content depends on ``seed``."""

    def encode(seed: int, size: tuple[int, int] = (4, 4), mode: str = "RGB") -> bytes:
        from PIL import Image

        channels = len(mode) if mode != "L" else 1
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(buffer, "PNG")
        return buffer.getvalue()

    return encode


@pytest.fixture
def parquet_file(tmp_path: Path, png: Callable[..., bytes]) -> Callable[..., Path]:
    """A Parquet file of small images; ``seeds`` decide their content."""

    def write(name: str, seeds: list[int], labels: list[int] | None = None) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            "image": pa.array([png(seed) for seed in seeds], pa.binary()),
            "label": pa.array(labels or [seed % 2 for seed in seeds], pa.int8()),
        }
        table = pa.table(columns).replace_schema_metadata({"classes": "even,odd"})
        pq.write_table(table, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; skips where it is missing."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("DEPLOYPIPE_DATA", default))
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"no real data in {folder}; set DEPLOYPIPE_DATA")
    return folder
