"""Images on another pixel grid."""
