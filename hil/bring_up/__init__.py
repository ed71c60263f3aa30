"""First contact with a board: what is right and wrong with it, step by step, in words.

In: a board and a place to run. Out: a report. May import targets, link, codegen, build and boards; measures no network.
"""
