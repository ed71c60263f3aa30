"""Every error that munas raises on purpose.

    MunasError
     ├── DatasetError       a data set is missing, corrupt, or of a shape that cannot be used
     ├── SearchError        the request itself is wrong: bounds nothing can meet, the store of another search
     ├── SearchStoreError   the surroundings failed: disk full, file corrupt or held by another process
     ├── TrainingError      one trial could not be trained; the search goes on
     ├── JobError           a job failed in a way that only its text tells
     ├── JobsError          jobs cannot be run at all: no worker can be started, the cluster is gone
     │    └── PreloadError  what all workers need cannot be imported
     └── PlaceUnfit         a job cannot be done at this place, though perhaps at another

A message says what was tried and what to do. A `SearchError` is the user's to repair; after a `SearchStoreError` the
same command goes on where the search was.
"""

from __future__ import annotations


class MunasError(Exception):
    """Base of all errors raised on purpose."""


class DatasetError(MunasError):
    """A data set is missing, corrupt, or of a shape that cannot be used; the message says how to install it."""


class SearchError(MunasError):
    """The search as asked for cannot be run."""


class SearchStoreError(MunasError):
    """The store or the disk failed, or no worker can be started; whatever was stored is kept."""


class TrainingError(MunasError):
    """One trial could not be trained or quantised. It counts as a failed trial."""


class JobError(MunasError):
    """What a job raised, where the error itself does not pickle."""


class JobsError(MunasError):
    """Jobs cannot be run: no worker can be started, a module is missing, the cluster is gone."""


class PreloadError(JobsError):
    """What all workers need cannot be imported, or not before they are forked."""


class PlaceUnfit(MunasError):
    """A job cannot be done at this place, though perhaps at another one: a board there is lost."""
