"""Training of one stage: the loop, its optimizer and numerics, and CUDA graphs of its steps."""
