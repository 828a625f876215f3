"""The runs of the translation study, in the order in which they are wanted."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.gpu.cell import Cell
from benchmarks.gpu.cell import grid

SEEDS = (1, 2, 3)
# Settings are chosen on a seed that no reported run has.
SEARCH_SEED = 11


def comparison(base: Cell, plain: Cell, rdrop: Cell) -> list[Cell]:
    """Returns the arms of a comparison on all seeds, the main ones first.

    Args:
        base: The usual settings, without a search.
        plain: The settings of plain training that a search found. The two
            controls, which are plain training twice, share them.
        rdrop: The settings of R-Drop from a search of the same size.
    """
    main = [plain, rdrop, replace(plain, arm="two_pass")]
    others = [
        base,
        replace(base, arm="rdrop"),
        replace(plain, arm="doubled"),
    ]
    runs = [
        replace(cell, seed=seed)
        for cells in (main, others)
        for seed in SEEDS
        for cell in cells
    ]
    # A search may have found the usual settings.
    return list(dict.fromkeys(runs))


def search(
    base: Cell,
    rates: tuple[float, ...],
    dropouts: tuple[float, ...],
    alphas: tuple[float, ...] = (1.0, 5.0),
) -> list[Cell]:
    """Returns as many settings of plain training as of R-Drop.

    Plain training gains from dropout of attention and activations, on which
    R-Drop has no budget left to spend because of alpha.

    Args:
        base: The settings that stay.
        rates: The learning rates.
        dropouts: The dropout rates.
        alphas: Two weights of the consistency.
    """
    base = replace(base, seed=SEARCH_SEED)
    plain = [
        replace(cell, attention_dropout=more, activation_dropout=more)
        for dropout in dropouts
        for more in (0.0, 0.1)
        for cell in grid(base, dropout=(dropout,), learning_rate=rates)
    ]
    rdrop = grid(
        replace(base, arm="rdrop"),
        dropout=dropouts,
        alpha=alphas,
        learning_rate=rates,
    )
    return [cell for pair in zip(plain, rdrop) for cell in pair]


# On one H100. Arithmetic is cheaper there than compilation: all pairs have one
# length, so that a third of the positions are words.
GPU = Cell(dtype="mixed_bfloat16", max_tokens=12_288)
SMALL = replace(GPU, size="small", updates=8000, warm_up=2000)
LARGE = replace(GPU, size="iwslt", updates=20_000)
# On two CPU cores.
NARROW = Cell(
    size="narrow",
    pairs=4000,
    updates=2000,
    max_tokens=512,
    buckets=3,
    learning_rate=2e-3,
    warm_up=300,
)
TUNED = {
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "learning_rate": 7e-4,
}

PLANS: dict[str, list[Cell]] = {
    "narrow_search": search(NARROW, (2e-3,), (0.1, 0.3)),
    # The settings are those that the search found.
    "narrow": comparison(
        NARROW,
        replace(
            NARROW, dropout=0.1, attention_dropout=0.1, activation_dropout=0.1
        ),
        replace(NARROW, arm="rdrop", dropout=0.1, alpha=1.0),
    ),
    "small_search": search(SMALL, (5e-4, 1e-3), (0.2, 0.3)),
    "small": comparison(
        SMALL, replace(SMALL, **TUNED), replace(SMALL, arm="rdrop")
    ),
    "large": comparison(
        LARGE, replace(LARGE, **TUNED), replace(LARGE, arm="rdrop")
    ),
    # Does the best alpha fall as data grows?
    "alpha_by_pairs": grid(
        replace(SMALL, arm="rdrop"),
        pairs=(15_000, 45_000, None),
        alpha=(5.0, 1.0, 2.0, 0.5, 10.0),
    ),
    "dropout": grid(
        SMALL, dropout=(0.1, 0.2, 0.3, 0.4), arm=("plain", "rdrop")
    ),
    "passes": [
        *grid(replace(SMALL, arm="rdrop"), num_passes=(2, 3)),
        *grid(replace(SMALL, arm="rdrop"), every=(2, 5)),
    ],
}
