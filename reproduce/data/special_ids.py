"""The special token ids, which are the first ids of every vocabulary."""

# Padding is 0 because Keras's layers use this id for padding.
PAD = 0
BOS = 1
EOS = 2
UNK = 3
