"""What executes a network in the firmware: generated calls of CMSIS-NN, or TFLM's interpreter.

In: a parsed model and a board. Out: a `Deployment`: its plan, its firmware project, and how to read its image.
May import codegen, build, model and boards.
"""
