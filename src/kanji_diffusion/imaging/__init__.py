"""Pictures as arrays: stored, resized, warped, degraded, measured, laid out in a grid."""
