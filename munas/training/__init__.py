"""Training of trials with TensorFlow, and their way to int8 .tflite files.

In: a trial of the search, and a data set. Out: its error, weights and .tflite. The only package that needs TensorFlow,
which it loads when it is used. May import search (what a trial is), data and arch.
"""
