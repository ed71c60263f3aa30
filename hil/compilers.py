"""What a compiler, the board's or this computer's, sees of the user's environment."""

from __future__ import annotations

import os

# By these a user's environment would put other headers, libraries and programs into a build without its knowing.
_VARIABLES = (
    "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH",
    "GCC_EXEC_PREFIX", "GCC_COMPARE_DEBUG", "DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "SOURCE_DATE_EPOCH",
    "LD_RUN_PATH", "LDEMULATION", "COLLECT_GCC_OPTIONS", "COLLECT_LTO_WRAPPER",
)  # fmt: skip


def compiler_environment() -> dict[str, str]:
    """The environment of the compilers: messages in English, and nothing that changes what comes out."""
    return {key: value for key, value in os.environ.items() if key not in _VARIABLES} | {"LC_ALL": "C"}
