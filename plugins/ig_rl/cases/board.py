"""The rules of Reversi for many games at once: planes of the discs of the mover and the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SIDE = 8
PASS = SIDE * SIDE
DIRECTIONS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]

Discs = Bool[Tensor, "games 8 8"]
Move = Callable[[Float[Tensor, "games 8 8 2"], Bool[Tensor, "games 65"]], Int[Tensor, " games"]]
"""Chooses among the legal moves of positions."""


def opening(games: int) -> tuple[Discs, Discs]:
    """The four discs of the start: black's, who moves first, and white's."""
    black, white = torch.zeros(2, games, SIDE, SIDE, dtype=torch.bool)
    black[:, 3, 4] = black[:, 4, 3] = True
    white[:, 3, 3] = white[:, 4, 4] = True
    return black, white


def seen(mine: Discs, theirs: Discs) -> Float[Tensor, "games 8 8 2"]:
    """A position as the networks of ludax-agents receive it."""
    return torch.stack([mine, theirs], dim=-1).float()


def legal(mine: Discs, theirs: Discs) -> Bool[Tensor, "games 65"]:
    """Moves by the number of the square, and passing where there is none."""
    squares = torch.zeros_like(mine)
    for way in DIRECTIONS:
        squares |= _next(_line(mine, theirs, way), way)
    squares &= ~(mine | theirs)
    moves = squares.flatten(1)
    return torch.cat([moves, ~moves.any(1, keepdim=True)], dim=1)


def moved(mine: Discs, theirs: Discs, move: Int[Tensor, " games"]) -> tuple[Discs, Discs]:
    """The discs of the mover and of the other after a legal move in each game."""
    placed = torch.nn.functional.one_hot(move, PASS + 1)[:, :PASS].bool().view_as(mine)
    turned = torch.zeros_like(mine)
    for way in DIRECTIONS:
        line = _line(placed, theirs, way)
        closed = (_next(line, way) & mine).flatten(1).any(1)
        turned |= line & closed[:, None, None]
    return mine | placed | turned, theirs & ~turned


@dataclass(frozen=True, eq=False)
class Games:
    """Positions before each move of the first player, and the discs by which it won each game."""

    positions: Float[Tensor, "positions 8 8 2"]
    margins: Int[Tensor, " games"]


def played(first: Move, second: Move, games: int) -> Games:
    """Games of two players; the first has black, hence the first move, in every other game."""
    black, white = opening(games)
    leads = torch.arange(games) % 2 == 0
    positions = []
    passed = torch.zeros(games, dtype=torch.bool)
    over = passed
    turn = 0
    while not bool(over.all()):
        mine, theirs = (white, black) if turn % 2 else (black, white)
        can, view = legal(mine, theirs), seen(mine, theirs)
        own = leads if turn % 2 == 0 else ~leads
        move = torch.where(own, first(view, can), second(view, can))
        positions.append(view[own & ~can[:, PASS]])
        mine, theirs = moved(mine, theirs, move)
        black, white = (theirs, mine) if turn % 2 else (mine, theirs)
        over = over | (passed & can[:, PASS])
        passed = can[:, PASS]
        turn += 1
    lead = black.flatten(1).sum(1) - white.flatten(1).sum(1)
    return Games(torch.cat(positions), torch.where(leads, lead, -lead))


def square(number: int) -> str:
    """A square as players call it: a1 is a corner, h8 the one across."""
    row, column = divmod(number, SIDE)
    return f"{'abcdefgh'[column]}{row + 1}"


def _next(discs: Discs, way: tuple[int, int]) -> Discs:
    """Discs moved by one square, off the board at its edge."""
    (down, right), padded = way, torch.nn.functional.pad(discs, (1, 1, 1, 1))
    return padded[:, 1 - down : 1 - down + SIDE, 1 - right : 1 - right + SIDE]


def _line(start: Discs, over: Discs, way: tuple[int, int]) -> Discs:
    """The unbroken row of discs of ``over`` behind each of ``start`` in one direction."""
    line = _next(start, way) & over
    for _ in range(SIDE - 3):
        line |= _next(line, way) & over
    return line
