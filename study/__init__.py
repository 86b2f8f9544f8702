"""A hyperparameter study of the mixture of experts: `python -m study.run`."""
