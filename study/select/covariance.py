"""The covariance of trials that share baselines and configs, inverted without ever being a matrix of all trials."""

from functools import cached_property

import numpy as np
from scipy import sparse

from study.select.trials import Floats, Trials


class Precision:
    """The inverse covariance W of the trials in units of the noise, summed over the trials of each config.

    The covariance is diagonal, plus a block for the trials of each baseline's chain, plus one for each replicated
    config. C is (configs, trials), 1 where the trial is of the config.
    """

    def __init__(self, trials: Trials, scales: Floats, own: float, shared: float) -> None:
        cells = trials.cells
        _, group, members = np.unique(trials.chains, return_inverse=True, return_counts=True)
        several, replicated = (members > 1)[group], cells.counts > 1
        diagonal = scales**2 * np.where(several, 1 - shared, 1.0)
        if own:
            diagonal = diagonal + np.where(replicated[cells.config_of], 0.0, own)
        self.config_of, self.chain_of = cells.config_of, group  # (trials,)
        self.blocks = np.where(several, np.sqrt(shared) * scales, 0.0)  # (trials,)
        self.inverse = 1 / diagonal  # (trials,)
        self.inner = 1 + np.bincount(group, self.blocks**2 * self.inverse)  # (chains,)
        self.sums = np.bincount(cells.config_of, self.inverse)  # (configs,)
        shape = len(cells.counts), len(members)
        self.shared = sparse.csr_array((self.blocks * self.inverse, (cells.config_of, group)), shape=shape)
        self.log_determinant = float(np.log(diagonal).sum() + np.log(self.inner).sum())
        self.replicated = np.flatnonzero(replicated) if own else np.zeros(0, np.int64)
        columns = np.zeros((len(cells.counts), len(self.replicated)))
        columns[self.replicated, np.arange(len(self.replicated))] = 1.0
        self.own = self._blocked(columns)
        schur = np.eye(len(self.replicated)) / (own or 1.0) + self.own[self.replicated]
        self.schur = np.linalg.inv(schur)
        self.log_determinant += float(np.linalg.slogdet(schur)[1] + len(self.replicated) * np.log(own or 1.0))

    def _blocked(self, values: Floats) -> Floats:
        return np.asarray(self.sums[:, None] * values - self.shared @ ((self.shared.T @ values) / self.inner[:, None]))

    def of_features(self, values: Floats) -> Floats:
        """C W C' times (configs, n)."""
        return self._blocked(values) - self.own @ (self.schur @ (self.own.T @ values))

    def of_trials(self, values: Floats) -> tuple[Floats, float]:
        """C W times (trials,), and the square of the values under W."""
        weighted = values * self.inverse
        of_chains = np.bincount(self.chain_of, self.blocks * weighted)
        found = np.bincount(self.config_of, weighted) - self.shared @ (of_chains / self.inner)
        part = self.schur @ found[self.replicated]
        square = values @ weighted - of_chains**2 @ (1 / self.inner) - found[self.replicated] @ part
        return np.asarray(found - self.own @ part), float(square)

    @cached_property
    def of_configs(self) -> Floats:
        """(configs,) the diagonal of C W C'."""
        blocked = self.sums - self.shared.power(2) @ (1 / self.inner)
        return np.asarray(blocked - ((self.own @ self.schur) * self.own).sum(1))
