"""Architecture to int8 .tflite with random weights, without TensorFlow.

In: a graph and a seed. Out: bytes of a file. May import arch.
"""
