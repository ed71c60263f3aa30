"""Data sets: `load_dataset` by name, checked, cached and shared between processes as memory maps."""

from munas.data.catalogue import DATASETS, load_dataset
from munas.data.dataset import Dataset, Examples

__all__ = ["DATASETS", "Dataset", "Examples", "load_dataset"]
