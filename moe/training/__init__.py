"""How a stage is trained: the loop, its numerics, and CUDA graphs of its steps."""
