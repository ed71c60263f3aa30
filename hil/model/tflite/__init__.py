"""Reading .tflite files that nobody vouches for. `hil.model.network` is the way in."""
