"""One exact, restartable training loop for every model of the project."""
