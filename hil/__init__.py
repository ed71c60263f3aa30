"""munas-hil: the loop from a .tflite to figures measured on a (possibly emulated) Cortex-M, and back."""
