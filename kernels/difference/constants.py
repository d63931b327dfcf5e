"""Numbers that both paths of image subtraction share."""

# Gradients below this many standard deviations of those of the empty sky are noise, which no shift makes.
SLOPE_SIGMAS = 3.0
# Between these significances a score ceases to be taken for noise and is taken for a source.
OWN_FROM, OWN_FULL = 3.0, 5.0
# The variance of the score is never taken below this part of that of the empty sky.
LEAST_VARIANCE = 0.7
