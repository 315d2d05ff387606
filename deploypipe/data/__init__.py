"""Where samples come from: named, counted, with stable ids and a recorded preprocessing.

A recipe's ``data:`` opens as :class:`Data`, whose splits give batches.  A new source is one new file
in ``sources/`` whose class derives from :class:`Source`.
"""

from deploypipe.data.dataset import Batch, Data, Split
from deploypipe.data.preprocess import Preprocess
from deploypipe.data.recipe import DataRecipe, SplitCounts, open_data, open_samples
from deploypipe.data.source import SOURCES, Raw, Source
from deploypipe.data.spec import source_of

__all__ = [
    "SOURCES",
    "Batch",
    "Data",
    "DataRecipe",
    "Preprocess",
    "Raw",
    "Source",
    "Split",
    "SplitCounts",
    "open_data",
    "open_samples",
    "source_of",
]
