"""What the eight GLUE tasks of the R-Drop paper look like, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from reproduce.text_classification.glue_files import Layout


@dataclass(frozen=True)
class GlueTask:
    """What a task's files look like, and how it is scored.

    Attributes:
        name: The name on the command line, as in the names of the recipes.
        folder: The folder that GLUE keeps it in.
        layout: What `train.tsv` and the validation files look like.
        labels: The classes by what the files call them, in the conventional
            order, in which the second of two is the positive one; empty for
            regression.
        range: The lowest and the highest score; None for classification.
        no_label: What stands for a label where there is none; such lines are
            skipped.
        metrics: The metrics of GLUE.
        headline: The one that the paper reports.
        test_layout: What the test files look like.
        valid: The validation files by part.
        test: The test files by part.
    """

    name: str
    folder: str
    layout: Layout
    test_layout: Layout
    labels: dict[str, str] = field(default_factory=dict)
    range: tuple[float, float] | None = None
    no_label: str | None = None
    metrics: tuple[str, ...] = ("accuracy",)
    headline: str = "accuracy"
    valid: dict[str, str] = field(default_factory=lambda: {"dev": "dev.tsv"})
    test: dict[str, str] = field(default_factory=lambda: {"test": "test.tsv"})

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; the index of a class is its place among them."""
        return tuple(self.labels.values())

    @property
    def is_regression(self) -> bool:
        """Whether labels are scores rather than classes."""
        return self.range is not None

    @property
    def is_pair(self) -> bool:
        """Whether an example is two sentences rather than one."""
        return self.layout.second is not None


def _binary(negative: str, positive: str) -> dict[str, str]:
    return {"0": negative, "1": positive}


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_ENTAILMENT = _same("entailment", "not_entailment")
_INDEX = ("index",)
_MNLI = Layout("sentence1", "sentence2", "gold_label", _INDEX)
_MRPC = Layout("#1 String", "#2 String", "Quality", ("#1 ID", "#2 ID"))
_QNLI = Layout("question", "sentence", "label", _INDEX)
_QQP = Layout(
    "question1",
    "question2",
    "is_duplicate",
    ("id",),
    skips_short_lines=True,
    keeps_empty=True,
)
_RTE = Layout("sentence1", "sentence2", "label", _INDEX)
_STSB = Layout("sentence1", "sentence2", "score", _INDEX)

GLUE_TASKS: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask(
            name="mnli",
            folder="MNLI",
            layout=_MNLI,
            test_layout=replace(_MNLI, label=None),
            labels=_same("entailment", "neutral", "contradiction"),
            # The annotators did not agree.
            no_label="-",
            valid={
                "matched": "dev_matched.tsv",
                "mismatched": "dev_mismatched.tsv",
            },
            test={
                "matched": "test_matched.tsv",
                "mismatched": "test_mismatched.tsv",
            },
        ),
        GlueTask(
            name="mrpc",
            folder="MRPC",
            layout=_MRPC,
            test_layout=replace(_MRPC, label=None),
            labels=_binary("not_equivalent", "equivalent"),
            metrics=("accuracy", "f1"),
        ),
        GlueTask(
            name="qnli",
            folder="QNLI",
            layout=_QNLI,
            test_layout=replace(_QNLI, label=None),
            labels=_ENTAILMENT,
        ),
        GlueTask(
            name="qqp",
            folder="QQP",
            layout=_QQP,
            # A prediction is due for every line of a test file.
            test_layout=replace(_QQP, label=None, skips_short_lines=False),
            labels=_binary("not_duplicate", "duplicate"),
            metrics=("accuracy", "f1"),
        ),
        GlueTask(
            name="rte",
            folder="RTE",
            layout=_RTE,
            test_layout=replace(_RTE, label=None),
            labels=_ENTAILMENT,
        ),
        GlueTask(
            name="sst2",
            folder="SST-2",
            layout=Layout("sentence", label="label"),
            test_layout=Layout("sentence", ids=_INDEX),
            labels=_binary("negative", "positive"),
        ),
        GlueTask(
            name="stsb",
            folder="STS-B",
            layout=_STSB,
            test_layout=replace(_STSB, label=None),
            range=(0.0, 5.0),
            metrics=("pearson", "spearman"),
            headline="pearson",
        ),
        GlueTask(
            name="cola",
            folder="CoLA",
            # Source, label, the author's mark and sentence, without a header.
            layout=Layout(3, label=1, width=4),
            test_layout=Layout("sentence", ids=_INDEX),
            labels=_binary("unacceptable", "acceptable"),
            metrics=("matthews",),
            headline="matthews",
        ),
    )
}
