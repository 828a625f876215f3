"""The token ids that every vocabulary of the examples begins with."""

# Padding is 0 because Keras's own layers mean it by that id.
PAD = 0
BOS = 1
EOS = 2
UNK = 3
