"""Grid scans: a bank of templates fitted in every window of a grid of times and time scales."""
