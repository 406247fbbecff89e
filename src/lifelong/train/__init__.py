"""The training loop, its optimizers and checkpoints, and the runs that use it."""
