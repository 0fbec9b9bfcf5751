"""Training: steps, batches, and the loop around them."""
