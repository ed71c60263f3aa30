"""Reading .tflite files that nobody vouches for, piece by piece. `hil.model.load` is the way in."""
