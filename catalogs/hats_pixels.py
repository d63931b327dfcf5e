"""Which HEALPix pixels the files of a catalogue cover."""

import numpy as np

# Cells are gathered whenever so many stand in memory.
_MOST = 4_000_000

_Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


class SkyHistogram:
    """Rows and weight in every filled HEALPix cell of an order.

    Parameters
    ----------
    order : int
        Of the cells.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.cells = np.zeros(0, np.int64)
        self.rows = np.zeros(0, np.int64)
        self.weight = np.zeros(0, np.int64)
        self._waiting: list[_Columns] = []

    def add(self, healpix: np.ndarray, weight: np.ndarray) -> None:
        """Count objects.

        Parameters
        ----------
        healpix : uint64 array of shape (n,)
            Cells of order 29.
        weight : int64 array of shape (n,)
        """
        cells = (healpix >> np.uint64(2 * (29 - self.order))).astype(np.int64)
        self._waiting.append(_sums(cells, np.ones(len(cells), np.int64), weight))
        if sum(len(part[0]) for part in self._waiting) > _MOST:
            self.finish()

    def finish(self) -> None:
        """Bring `cells` (ascending), `rows` and `weight` up to date."""
        parts = [(self.cells, self.rows, self.weight), *self._waiting]
        cells, rows, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
        self.cells, self.rows, self.weight = _sums(cells, rows, weight)
        self._waiting = []

    def pixels(self, most: int, highest: int) -> list[tuple[int, int]]:
        """Pixels (order, number) along the curve that hold every row, each with a weight of at most `most`.

        A pixel of the highest order, which is not above that of the histogram, may weigh more.
        """
        total = np.concatenate([[0], np.cumsum(self.weight)])
        found: list[tuple[int, int]] = []
        waiting = [(0, pixel) for pixel in range(11, -1, -1)]
        while waiting:
            order, pixel = waiting.pop()
            shift = 2 * (self.order - order)
            low, high = np.searchsorted(self.cells, [pixel << shift, (pixel + 1) << shift])
            if low == high:
                continue
            if order == highest or total[high] - total[low] <= most:
                found.append((order, pixel))
            else:
                waiting += [(order + 1, 4 * pixel + child) for child in (3, 2, 1, 0)]
        return found

    def map(self, order: int) -> np.ndarray:
        """Rows in every cell of an order that is not above that of the histogram (int64, 12 * 4**order)."""
        full = np.zeros(12 * 4**order, np.int64)
        np.add.at(full, self.cells >> (2 * (self.order - order)), self.rows)
        return full


def _sums(cells: np.ndarray, rows: np.ndarray, weight: np.ndarray) -> _Columns:
    """Sums over equal cells, which come out ascending."""
    if not len(cells):
        return cells, rows, weight
    order = np.argsort(cells, kind="stable")
    cells = cells[order]
    starts = np.flatnonzero(np.append(True, cells[1:] != cells[:-1]))
    return cells[starts], np.add.reduceat(rows[order], starts), np.add.reduceat(weight[order], starts)


def pixel_range(order: int, pixel: int) -> tuple[int, int]:
    """First cell of order 29 in a pixel, and the first behind it."""
    shift = 2 * (29 - order)
    return pixel << shift, (pixel + 1) << shift
