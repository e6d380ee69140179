"""The loop: objective, optimisers, batches."""
