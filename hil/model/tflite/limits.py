"""Limits of what is imported, so that no file can make the importer, the reference or a plan run away.

They are far above anything that runs on a Cortex-M, and low enough that LiteRT stays within a second or two.
"""

from __future__ import annotations

MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_TENSORS = 8192
MAX_OPERATORS = 2048
MAX_RANK = 6
MAX_DIMENSION = 65535  # geometry is 16 bits wide on the device
MAX_ACTIVATION_BYTES = 16 * 1024 * 1024
MAX_TOTAL_ACTIVATION_BYTES = 64 * 1024 * 1024
MAX_INTERFACE = 16  # inputs or outputs of a network
MAX_OPERANDS = 64  # inputs or outputs of an operator
MAX_FOLDED_ELEMENTS = 65536  # of a constant that is computed on import
MAX_WORK = 2_000_000_000  # multiply-accumulates plus elements moved, over the whole network
MAX_CLASSES = 4096  # of a softmax: its sum has 12 integer bits
MAX_NAME_CHARACTERS = 64
CONSTANT_REUSE = 4  # how often, on average, a file's bytes may be the weights of an operator

# Larger scales have no use. A dead layer's may be as small as a float32 can be.
MIN_ACTIVATION_SCALE = 2.0**-149
MAX_ACTIVATION_SCALE = 2.0**28
