"""Text classification with a BERT encoder, plain and with R-Drop.

    python -m reproduce.text_classification --compare

By default: which of 42 languages a CLDR name is in, learned by a BERT of two
layers from random weights on 40 names per language. It is a regime in which
R-Drop pays: plain training over-fits, dropout is light (0.1) and training goes
on for 38 epochs. On 6,300 names of the test set, mean over seeds 1 to 5, all
arms with 2,014 updates and alpha 5:

    plain     44.4 % accuracy   loss 2.44
    doubled   44.4 %            2.53
    two_pass  44.8 %            2.52
    rdrop     45.9 %            2.10

    python -m reproduce.text_classification \
        --compare plain,doubled,two_pass,rdrop --seeds 1,2,3,4,5

With half as many names R-Drop gained nothing in accuracy, and at dropout 0.3
both learned less. `docs/results/understanding.md` has the search, the spread
and what to hold against these numbers.

`--glue-task NAME --data DIR` trains on a task of GLUE, `--recipe NAME` as the
paper did, `--task diabetes` a small network on a regression.
"""
