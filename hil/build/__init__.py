"""From a folder of C to an image: sources, toolchain, compiling and linking, and reading the ELF.

In: a `Project` and a toolchain. Out: an `Image`, its symbols and sizes. May import boards.
"""
