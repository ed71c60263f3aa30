"""From a parsed model to C: which kernel runs each operator, where its tensors lie, and the project's files.

In: a `Model`. Out: a `Plan`, and a folder that builds alone with CMake. May import build (sources), model,
boards, and of munas its costs and memory.
"""
