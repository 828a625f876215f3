"""Language modelling with a Transformer, plain and with R-Drop.

    python -m reproduce.language_modeling train --arm rdrop --output runs/one
    python -m reproduce.language_modeling evaluate --model runs/one \
        --context-window 48
    python -m reproduce.language_modeling generate --model runs/one \
        --prompt "The statement"

By default: CPython's reference topics. WikiText-103 and the paper's two models
for it are given by `--recipe NAME --data DIR`, one's own text by `--train` and
its like.
"""
