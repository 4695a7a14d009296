"""The ridge paper (Nakaseko & Takahashi 2023): table 1, times, statements."""
