"""Training of trials with TensorFlow, and their way to int8 .tflite files."""
