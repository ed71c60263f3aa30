"""What every page is drawn with: SVG elements, axes and scales, numbers as text, tables.

In: plain figures. Out: text of SVG and HTML. Knows no calibration and no search.
"""
