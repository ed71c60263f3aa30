"""The C++ library of the cross compiler, which Debian packages apart from the compiler."""

from __future__ import annotations

import functools

from hil.build.toolchain import find_toolchain, run_tool
from hil.errors import BuildError, ToolMissing

INSTALL_CXX = "apt-get install libstdc++-arm-none-eabi-newlib"


@functools.cache
def require_cxx(core_flags: tuple[str, ...]) -> None:
    """That there is one for these flags. Raises ToolMissing."""
    options = ("-x", "c++", "-fsyntax-only", "-include", "cstdint", "/dev/null")
    try:
        run_tool([find_toolchain().gcc, *core_flags, *options])
    except BuildError as error:
        raise ToolMissing("the C++ library of arm-none-eabi-gcc", INSTALL_CXX) from error
