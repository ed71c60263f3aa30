"""The imported network: operators and tensors, checked; its quantisation; LiteRT's outputs for it.

In: an int8 .tflite that nobody vouches for. Out: an immutable `Model`. May import patterns, files and
errors alone.
"""
