"""KerasHub's tasks on batches that are already preprocessed."""

from __future__ import annotations

import keras


class PreparedBatches:
    """Mixin that replaces the loops of a KerasHub task with Keras's own.

    KerasHub's `fit`, `evaluate` and `predict` map a preprocessor over their
    data and do not accept a `PyDataset`. This class must precede the task among
    the base classes.
    """

    fit = keras.Model.fit
    evaluate = keras.Model.evaluate
    predict = keras.Model.predict
