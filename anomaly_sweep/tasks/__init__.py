"""What a trial is, and how the trials of a shard are computed."""
