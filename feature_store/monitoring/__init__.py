"""What the values look like: profiles of partitions, and the checks that judge them. Nothing here writes a store."""
