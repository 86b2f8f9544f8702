"""Which config a study chooses, and what is estimated of it."""
