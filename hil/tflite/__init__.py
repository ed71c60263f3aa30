"""Reading .tflite files that nobody vouches for. `hil.model` is the way in."""
