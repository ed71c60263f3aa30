"""TensorFlow, imported in one place: quietly, with one thread, or with the command that installs it.

Importing this module starts no thread and initialises nothing, so that a process may be forked after it.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

# TensorFlow reads them while it is imported. oneDNN halves the time of a step; both are what they are by default
# on x86, and said here because a seed only gives the same network under the same kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Deprecations inside TensorFlow, Keras and the converter are not ours to repair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


try:
    with no_warnings():
        import tensorflow as tf
except ImportError as error:
    raise ImportError(
        f"TensorFlow, which trains the trials, cannot be imported ({error}): pip install 'munas-hil[search]'"
    ) from error

# One thread for operators and one between them is what makes training deterministic, and a worker one core. The graph
# optimiser (Grappler) costs a second for a network with many branches and makes steps no faster. Neither can be
# changed once TensorFlow has run an operator: then this raises RuntimeError.
for _get, _set in (
    (tf.config.threading.get_intra_op_parallelism_threads, tf.config.threading.set_intra_op_parallelism_threads),
    (tf.config.threading.get_inter_op_parallelism_threads, tf.config.threading.set_inter_op_parallelism_threads),
):
    if _get() != 1:
        _set(1)
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

__all__ = ["no_warnings", "tf"]
