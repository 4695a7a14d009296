"""One page with the whole analysis."""
