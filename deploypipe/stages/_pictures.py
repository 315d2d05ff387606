"""The samples that moved most, as small pictures for the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploypipe.data import Split
from deploypipe.report.png import data_uri


def pictures(split: Split, ids: Sequence[str]) -> dict[str, str]:
    """Id -> data URI of the sample as it came, before preprocessing; empty where none is an image."""
    if not ids or not split.gives_images:
        return {}
    places = dict(zip(split.ids, split.rows, strict=True))
    known = [name for name in ids if name in places]
    images = split.source.read([places[name] for name in known]).images
    if images is None:
        return {}
    return {name: data_uri(np.asarray(image)) for name, image in zip(known, images, strict=True)}
