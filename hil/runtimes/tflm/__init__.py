"""TensorFlow Lite Micro as a runtime: its arena, its library, the project that links it. No TFLM code is in here."""
