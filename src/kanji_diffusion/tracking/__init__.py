"""What a run reports to MLflow, and how: an outage of MLflow never costs a run."""
