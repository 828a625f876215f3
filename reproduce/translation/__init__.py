"""Machine translation with a Transformer, plain and with R-Drop.

    python -m reproduce.translation train --arm rdrop --output runs/one
    python -m reproduce.translation translate --model runs/one < lines
    python -m reproduce.translation score --model runs/one \
        --source FILE --reference FILE

By default: localized text of the CLDR, English to German. The paper's datasets
are given by `--recipe NAME --data DIR`, one's own by `--train-source` and its
like.
"""
