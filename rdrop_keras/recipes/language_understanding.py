"""Language understanding: eight GLUE tasks (section 3.2, appendix A.4)."""

from __future__ import annotations

import dataclasses

from rdrop_keras.recipes.recipe import Recipe
from rdrop_keras.recipes.settings import AuthorsAlpha
from rdrop_keras.recipes.settings import BatchSettings
from rdrop_keras.recipes.settings import DropoutSettings
from rdrop_keras.recipes.settings import ModelSettings
from rdrop_keras.recipes.settings import OptimizerSettings
from rdrop_keras.recipes.settings import Result
from rdrop_keras.recipes.settings import ScheduleSettings
from rdrop_keras.recipes.settings import Searched
from rdrop_keras.recipes.settings import VocabularySettings

PAPER = "appendix A.4"
TABLE = "appendix A.4, Table 8"
README = "huggingface_transformer_src/README.md"
HF_DEFAULTS = "HF Transformers' defaults"


@dataclasses.dataclass(frozen=True)
class Task:
    """One row of Table 8, with the warm-up of the authors' README.

    The scores are those of Table 3, (baseline, R-Drop), of BERT-base and of
    RoBERTa-large.
    """

    label: str
    updates: int
    batch: int
    alpha: float
    warmup: int
    bert: tuple[float, float]
    roberta: tuple[float, float]
    metric: str = "accuracy"


TASKS = {
    "mnli": Task("MNLI", 123873, 32, 0.5, 7432, (83.8, 85.5), (90.2, 90.9)),
    "mrpc": Task("MRPC", 2296, 16, 1.0, 137, (85.3, 87.3), (90.9, 91.4)),
    "qnli": Task("QNLI", 33112, 32, 1.0, 1986, (90.8, 92.0), (94.7, 95.2)),
    "qqp": Task("QQP", 113272, 32, 0.5, 28318, (91.0, 91.4), (92.2, 92.5)),
    "rte": Task("RTE", 3120, 8, 1.0, 122, (68.2, 71.1), (86.6, 88.4)),
    "sst2": Task("SST-2", 20935, 32, 1.0, 1256, (92.4, 93.0), (96.4, 96.9)),
    "stsb": Task(
        "STS-B",
        3598,
        16,
        1.0,
        214,
        (89.3, 89.6),
        (92.4, 92.5),
        "Pearson correlation",
    ),
    "cola": Task(
        "CoLA",
        5336,
        16,
        0.5,
        320,
        (62.3, 62.6),
        (68.0, 70.0),
        "Matthews correlation",
    ),
}

MODELS = {
    "bert_base": ModelSettings(
        name="BERT-base",
        encoder_layers=12,
        hidden_size=768,
        feed_forward_size=3072,
        attention_heads=12,
        pretrained="bert-base-cased",
        source=f"{PAPER}; cased: huggingface_transformer_src/bert_rdrop/run.sh",
    ),
    "roberta_large": ModelSettings(
        name="RoBERTa-large",
        encoder_layers=24,
        hidden_size=1024,
        feed_forward_size=4096,
        attention_heads=16,
        pretrained="roberta-large",
        source=PAPER,
    ),
}

# What the authors' code amounts to here, by batch size.
SUMMED = {
    "bert_base": {8: 4.0, 16: 8.0, 32: 16.0},
    "roberta_large": {8: 22.4, 16: 44.8, 32: 89.6},
}
SUMMED_WEIGHT = {"bert_base": 0.5, "roberta_large": 0.7}

SEEDS = (
    "The maintainers say that many of these results need a particular random "
    "seed and settings (thread 23 of dropreg/R-Drop); the only seed published "
    "is 5, for MRPC in run.sh."
)
ONE_TABLE = "Table 8 has one setting for each task, taken here for both models."
FIRST_PASS_ONLY = (
    "The authors' code for RoBERTa trains on half the task loss of the first "
    "pass only, since a loop over the passes is missing."
)
# Of BERT-base alone.
REPORTED = {
    "mnli": "Table 9, whose model is not named, has 84.48 for MNLI with alpha "
    "0.5, Table 3 has 85.5.",
    "mrpc": "Table 9, whose model is not named, has 86.51 for MRPC with alpha "
    "1, Table 3 has 87.3; thread 30 of dropreg/R-Drop reports 82.8 with "
    "bert-base-uncased.",
    "rte": "Thread 30 of dropreg/R-Drop reports 66.4 with bert-base-uncased.",
    "cola": "Thread 30 of dropreg/R-Drop reports 58.1 with bert-base-uncased.",
}


def _authors_alpha(name: str, model: str, task: Task) -> AuthorsAlpha:
    source = f"authors_{model.split('_')[0]}"
    if name == "stsb":
        value, alpha = {"bert_base": (1.0, 1.0), "roberta_large": (0.8, 3.2)}[
            model
        ]
        return AuthorsAlpha(
            value=value, convert_from=f"{source}_regression", alpha=alpha
        )
    return AuthorsAlpha(
        value=SUMMED_WEIGHT[model],
        convert_from=source,
        batch_size=task.batch,
        alpha=SUMMED[model][task.batch],
    )


def _discrepancies(name: str, model: str, task: Task) -> tuple[str, ...]:
    theirs = _authors_alpha(name, model, task)
    if name == "stsb":
        found = [
            "Eq. 7 and 8 are printed with norms; the authors' code has mean "
            f"squares, the divergence weighed by a fixed {theirs.value:g}: "
            f"alpha {theirs.alpha:g} here."
        ]
    else:
        found = [
            "The authors' code sums the divergence over the batch, averages "
            "the task loss and has a fixed weight of "
            f"{theirs.value:g}, whatever Table 8 says: alpha {theirs.alpha:g} "
            f"here at batch {task.batch}."
        ]
    if model == "roberta_large":
        found.append(FIRST_PASS_ONLY)
    if name == "rte":
        found.append("Table 8 has 3,120 updates; the authors' README 2,036.")
    if model == "bert_base" and name in REPORTED:
        found.append(REPORTED[name])
    return (*found, SEEDS, ONE_TABLE)


def _glue(name: str, task: Task, model: str) -> Recipe:
    baseline, rdrop = task.bert if model == "bert_base" else task.roberta
    return Recipe(
        name=f"glue_{name}_{model}",
        task="language_understanding",
        dataset=f"GLUE {task.label}",
        model=MODELS[model],
        alpha=task.alpha,
        alpha_source=TABLE,
        divergence="squared_error" if name == "stsb" else "categorical",
        dropout=DropoutSettings(
            rate=0.1, attention=0.1, source=f"{PAPER}; attention: {HF_DEFAULTS}"
        ),
        optimizer_settings=OptimizerSettings(
            name="adam",
            betas=(0.9, 0.98),
            epsilon=1e-6,
            weight_decay=0.01,
            global_clipnorm=1.0,
            # As Keras names biases and the scale and offset of layer
            # normalization.
            undecayed=("bias", "gamma", "beta"),
            source=f"{PAPER}; clipping and undecayed: {HF_DEFAULTS}",
        ),
        schedule=ScheduleSettings(
            kind="polynomial",
            learning_rate=1e-5,
            warmup_updates=task.warmup,
            total_updates=task.updates,
            initial_learning_rate=0.0,
            end_learning_rate=1e-7,
            power=1.0,
            source=f"{TABLE}; warm-up: {README}; last rate, power: "
            f"{HF_DEFAULTS}",
        ),
        batch=BatchSettings(
            examples=task.batch,
            gradient_accumulation_steps=1,
            devices=1,
            hardware="1 RTX 3090",
            source=TABLE,
        ),
        vocabulary=VocabularySettings(
            kind="that of the pre-trained model", source=PAPER
        ),
        results=(
            Result(
                metric=task.metric,
                split="dev",
                baseline=baseline,
                rdrop=rdrop,
                source="Table 3",
            ),
        ),
        authors_alpha=_authors_alpha(name, model, task),
        searched=(
            Searched(
                setting="alpha", values=(0.1, 0.5, 1.0), source="section 3.2"
            ),
            Searched(
                setting="schedule.learning_rate",
                values=(5e-6, 1e-5),
                source=PAPER,
            ),
            Searched(
                setting="batch.examples", values=(8, 16, 32), source=PAPER
            ),
        ),
        discrepancies=_discrepancies(name, model, task),
    )


LANGUAGE_UNDERSTANDING = tuple(
    _glue(name, task, model) for model in MODELS for name, task in TASKS.items()
)
