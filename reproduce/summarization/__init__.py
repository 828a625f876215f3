"""Summarization with BART, plain and with R-Drop.

    python -m reproduce.summarization train --arm rdrop --output runs/one
    python -m reproduce.summarization summarize --model runs/one < articles
    python -m reproduce.summarization score --model runs/one \
        --source FILE --reference FILE

By default: docstrings of the standard library, NumPy, Keras and TensorFlow,
whose summary lines a small BART learns to write. The paper's dataset is given
by `--recipe cnn_dailymail_bart_large --data DIR --preset PRESET`, one's own by
`--train-source` and its like.
"""
