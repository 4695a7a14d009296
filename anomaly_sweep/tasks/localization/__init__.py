"""One vector a place, under a localizer: anomaly maps (Nakaseko & Takahashi 2023)."""
