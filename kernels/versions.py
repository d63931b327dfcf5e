"""Versions of the kernels over images, part of the fingerprint of everything made with them.

Raise one when its kernels give other numbers for the same input. They stand apart from the kernels, so that
a job can name them without loading these.
"""

DETECT = "3"
DIFFERENCE = "3"
MEASURE = "3"
RENDER = "2"
RESAMPLE = "2"
