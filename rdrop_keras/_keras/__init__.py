"""Every use of Keras's private API.

Each use has a function of its own, whose docstring gives the reason.
`tests/test_keras_internals.py` fails if a Keras release removes one.
"""

from keras.src.losses.loss import squeeze_or_expand_to_same_rank as same_rank

from rdrop_keras._keras.buffers import module_buffers
from rdrop_keras._keras.buffers import set_module_buffers
from rdrop_keras._keras.distribution import alone
from rdrop_keras._keras.distribution import process_group
from rdrop_keras._keras.graph import Functional
from rdrop_keras._keras.graph import graph_of
from rdrop_keras._keras.graph import nodes
from rdrop_keras._keras.graph import rewired
from rdrop_keras._keras.losses import LossEntry
from rdrop_keras._keras.losses import compiled_loss
from rdrop_keras._keras.losses import loss_entries
from rdrop_keras._keras.losses import options_of_function
from rdrop_keras._keras.losses import weighted_sum_of_losses
from rdrop_keras._keras.losses import weights_to_spend
from rdrop_keras._keras.models import all_layers
from rdrop_keras._keras.models import clones_as_plain
from rdrop_keras._keras.models import compile_config
from rdrop_keras._keras.models import global_seed_generator
from rdrop_keras._keras.models import has_built_metrics
from rdrop_keras._keras.models import is_cloning
from rdrop_keras._keras.models import keep_variables
from rdrop_keras._keras.models import logs_of_training
from rdrop_keras._keras.models import loss_tracker
from rdrop_keras._keras.models import refuse_h5
from rdrop_keras._keras.models import seed_generators
from rdrop_keras._keras.models import values_in_order
from rdrop_keras._keras.random import global_random_state
from rdrop_keras._keras.random import set_global_random_state
from rdrop_keras._keras.tensors import autocast_scope
from rdrop_keras._keras.tensors import carry_logits
from rdrop_keras._keras.tensors import carry_mask
from rdrop_keras._keras.tensors import computed_logits
from rdrop_keras._keras.tensors import is_seed_state
from rdrop_keras._keras.tensors import mask_of
from rdrop_keras._keras.tensors import operation_of
from rdrop_keras._keras.tensors import to_overwrite

__all__ = [
    "Functional",
    "LossEntry",
    "all_layers",
    "alone",
    "autocast_scope",
    "carry_logits",
    "carry_mask",
    "clones_as_plain",
    "compile_config",
    "compiled_loss",
    "computed_logits",
    "global_random_state",
    "global_seed_generator",
    "graph_of",
    "has_built_metrics",
    "is_cloning",
    "is_seed_state",
    "keep_variables",
    "logs_of_training",
    "loss_entries",
    "loss_tracker",
    "mask_of",
    "module_buffers",
    "nodes",
    "operation_of",
    "options_of_function",
    "process_group",
    "refuse_h5",
    "rewired",
    "same_rank",
    "seed_generators",
    "set_global_random_state",
    "set_module_buffers",
    "to_overwrite",
    "values_in_order",
    "weighted_sum_of_losses",
    "weights_to_spend",
]
