"""Numbers that both paths of image subtraction share."""

# Gradients below this many standard deviations of those of the empty sky are noise, which no shift makes.
SLOPE_SIGMAS = 3.0
# Between these significances a score ceases to be taken for noise and is taken for a source.
OWN_FROM, OWN_FULL = 3.0, 5.0
# The noise of the variance never takes more off it than leaves this part, nor of that of the empty sky.
LEAST_VARIANCE = 0.7
# Signal to noise power for which a bad pixel is guessed from its neighbours, how far these may be, and the
# steps of the solver. With these the missing centre of a star comes back to 10 to 20 % of its value, other
# pixels better, at a noise of no more than the sky's.
FILL_POWER, FILL_REACH, FILL_STEPS = 1000.0, 6, 10
# Error of a filled pixel in parts of its value, at least. Where much of the box about it is missing: that
# part of the peak of the star that could stand there and fits the good pixels about it, less 3 standard
# errors; no star is judged by less than the last number of the sum of the squared PSF.
FILL_ERROR, FILL_BOX, FILL_STAR, FILL_SIGMAS, FILL_LEAST = 0.2, 2, 10, 3.0, 1e-4
FILL_MISSING = 0.25
# Variance of filled pixels, in units of the sky's, that is left to float32 transforms; more goes its own way.
DOUBT_MOST = 100.0
# A pixel is lost where more than this part of a source's score would come from bad pixels.
MOST_LOST = 0.1
