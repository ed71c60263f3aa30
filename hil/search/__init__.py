"""`munas-hil search`: µNAS on a board's budget, and the hand-over of what it found."""
