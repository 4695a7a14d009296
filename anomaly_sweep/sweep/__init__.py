"""A sweep: plan it, execute what is missing, record it."""
