"""KerasHub's tasks on batches that are preprocessed already."""

from __future__ import annotations

import keras


class PreparedBatches:
    """Keras's own loops in place of those of a KerasHub task.

    KerasHub's map a preprocessor over their data, and take no `PyDataset`.
    Name this class before the task.
    """

    fit = keras.Model.fit
    evaluate = keras.Model.evaluate
    predict = keras.Model.predict
