"""Training of one stage: the loop, its numerics, and CUDA graphs of its steps."""
