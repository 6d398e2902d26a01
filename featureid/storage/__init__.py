"""Feature IDs on disk: records, shards, snapshots, and reading them back."""
