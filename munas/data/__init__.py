"""Data sets: `load_dataset` by name, checked, cached and shared between processes as memory maps."""

from munas.data.catalogue import DATASETS, load_dataset
from munas.data.dataset import Dataset, Examples
from munas.data.own import is_own, own_name

__all__ = ["DATASETS", "Dataset", "Examples", "is_own", "load_dataset", "own_name"]
