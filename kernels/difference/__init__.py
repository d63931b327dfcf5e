"""Image differencing."""
