"""What an image says about itself: background, stars, PSF, photometric scale."""
