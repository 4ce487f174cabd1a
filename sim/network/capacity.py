"""Bytes/s of every link of a network, by number."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import numpy as np
from numpy.typing import NDArray

from sim.records.pairs import Pairs


def table_of(pairs: Pairs) -> NDArray[np.float64]:
    """Return it as an array S x S, which takes no memory where all pairs are alike."""
    if pairs.common is not None:
        one, shape = np.array(pairs.common, dtype=float), (len(pairs), len(pairs))
        return np.ndarray(shape, buffer=one, strides=(0, 0))
    return np.array(pairs.rows, dtype=float)


class Capacity:
    """Bytes/s of every link, by number: pairs of sites row by row, and behind them the others."""

    def __init__(
        self,
        pairs: NDArray[np.float64],
        others: NDArray[np.float64],
        factor: float = 1.0,
        own: Mapping[int, float] | None = None,
    ) -> None:
        self._pairs = pairs
        self._others = others
        self._factor = factor  # on those of pairs
        self._own = own or {}  # by number, in place of it

    def __getitem__(self, number: int) -> float:
        return float(self.of(np.array([number]))[0])

    def of(self, numbers: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return those of many links, in the shape of their numbers."""
        rates = self._others.take(numbers - self._pairs.size, mode="clip")
        pair = numbers < self._pairs.size
        rates[pair] = self._pairs[np.divmod(numbers[pair], len(self._pairs))]
        if self._factor != 1.0 or self._own:
            limited = pair & (rates < inf)
            factors = np.full(numbers.shape, self._factor)
            for link, factor in self._own.items():
                factors[numbers == link] = factor
            rates[limited] *= factors[limited]
        return rates

    def times(
        self, pairs: float, own: Mapping[int, float], site_links: NDArray[np.float64]
    ) -> Capacity:
        """Return it with a factor on all pairs, on some of them, and on up- and downlinks.

        Parameters
        ----------
        pairs
            On links of pairs.
        own
            By a link's number, in place of it.
        site_links
            On uplinks and downlinks, in the order of their numbers.
        """
        others = self._others.copy()
        limited = others[: len(site_links)] < inf
        others[: len(site_links)][limited] *= site_links[limited]
        return Capacity(self._pairs, others, pairs, own)
