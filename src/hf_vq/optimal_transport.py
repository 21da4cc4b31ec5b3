# Copyright 2026 The hf_vq Authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The exact cost of moving one bag onto another, in numpy alone."""

import numpy as np

__all__ = ["transport_cost"]


def transport_cost(supply: np.ndarray, demand: np.ndarray, cost: np.ndarray) -> float:
    """Least total cost of a transport plan: min sum_ij f_ij c_ij, rows of f sum to supply.

    Successive shortest augmenting paths with potentials (Ahuja, Magnanti and Orlin, "Network
    flows", 1993, section 9.7). Amounts are integers, so the plan is exact; the time is about the
    third power of the number of places, which is small for the words of two sentences.

    Args:
        supply: What each source has, non-negative integers, shape (sources,).
        demand: What each sink takes, shape (sinks,), with the same sum.
        cost: Cost of one unit from source to sink, non-negative, shape (sources, sinks).

    Example:
        >>> transport_cost(np.array([2, 1]), np.array([1, 2]), np.array([[0.0, 1.0], [1.0, 0.0]]))
        1.0
    """
    supply, demand = np.array(supply), np.array(demand)  # copies, emptied below
    integer = np.issubdtype(supply.dtype, np.integer) and np.issubdtype(demand.dtype, np.integer)
    if not integer or min(supply.min(), demand.min()) < 0 or supply.sum() != demand.sum():
        raise ValueError(
            f"supply and demand must be integers >= 0 of equal sum, got {supply} and {demand}"
        )
    if cost.shape != (len(supply), len(demand)) or not (cost >= 0).all():
        raise ValueError(
            f"cost must be >= 0 with shape {(len(supply), len(demand))}, got {cost.shape}"
        )
    flow = np.zeros(cost.shape, dtype=supply.dtype)
    # cost - row_price - column_price is >= 0 everywhere, and 0 where something flows.
    row_price, column_price = np.zeros(len(supply)), cost.min(axis=0).astype(np.float64)
    while supply.any():
        reduced = np.maximum(cost - row_price[:, None] - column_price, 0)
        path = _shortest_path(supply, demand, flow, reduced, row_price, column_price)
        forward, backward = path[::2], path[1::2]
        amount = min(
            supply[forward[0][0]], demand[path[-1][1]], *(flow[place] for place in backward)
        )
        for place in forward:
            flow[place] += amount
        for place in backward:
            flow[place] -= amount
        supply[forward[0][0]] -= amount
        demand[path[-1][1]] -= amount
    return float((flow * cost).sum())


def _shortest_path(
    supply: np.ndarray,
    demand: np.ndarray,
    flow: np.ndarray,
    reduced: np.ndarray,
    row_price: np.ndarray,
    column_price: np.ndarray,
) -> list[tuple[int, int]]:
    """Find a cheapest path from a row with supply to a column with demand, and set the prices.

    Returns the places (row, column) of the path in order: something more flows through the first,
    less through the second, and so on.
    """
    row_distance = np.where(supply > 0, 0.0, np.inf)
    distance = reduced[supply > 0].min(axis=0)
    row_of = np.flatnonzero(supply > 0)[reduced[supply > 0].argmin(axis=0)]
    column_of = np.full(len(supply), -1)
    done = np.zeros(len(demand), dtype=bool)
    while True:
        column = int(np.where(done, np.inf, distance).argmin())
        done[column] = True
        if demand[column] > 0:
            break
        for source in np.flatnonzero((flow[:, column] > 0) & np.isinf(row_distance)):
            row_distance[source], column_of[source] = distance[column], column
            closer = ~done & (distance[column] + reduced[source] < distance)
            distance[closer] = distance[column] + reduced[source, closer]
            row_of[closer] = source
    total = distance[column]
    reached = np.isfinite(row_distance)
    row_price[reached] += total - row_distance[reached]
    column_price[done] -= total - distance[done]

    path = []
    row = int(row_of[column])
    path.append((row, column))
    while column_of[row] >= 0:
        column = int(column_of[row])
        path.append((row, column))
        row = int(row_of[column])
        path.append((row, column))
    return path[::-1]
