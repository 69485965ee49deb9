"""The recipe that this project began with, the one that was said to improve on it, and what each practice brings."""
