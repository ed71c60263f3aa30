"""HTML reports of a calibration and of a search, drawn as SVG without scripts.

In: results, read back from run folders. Out: a page of text, and the file that it is written to.
May import what makes results (search, calibration, measure) and everything below; only the command line imports it.
"""
