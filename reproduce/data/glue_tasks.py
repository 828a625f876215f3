"""The eight GLUE tasks of the R-Drop paper, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from typing import NamedTuple


class Columns(NamedTuple):
    """The columns of a file, by name, or by index in a file without a header.

    `second` is None in tasks of single sentences, and `label` in test files.
    The columns `ids` together identify a line.
    """

    first: str | int
    second: str | None = None
    label: str | int | None = None
    ids: tuple[str, ...] = ("index",)
    # The number of columns of a file without a header.
    width: int | None = None


@dataclass(frozen=True)
class GlueTask:
    """The files of a task, and its metrics.

    Attributes:
        name: The name on the command line, as in the names of the recipes.
        folder: GLUE's folder of the task.
        columns: The columns of the files with labels.
        labels: The class names by their labels in the files, in the order of
            class indices; empty for regression. The second of two classes is
            the positive one.
        test_columns: The columns of test files. None for the same columns
            without label.
        range: The lowest and the highest score; None for classification.
        no_label: The mark of a missing label. Such lines are skipped.
        broken: Whether the published files have lines with too few columns,
            which are skipped, and empty sentences, which are kept.
        headline: The metric that the paper reports.
        parts: The suffixes in the names of validation and test files.
    """

    name: str
    folder: str
    columns: Columns
    labels: dict[str, str] = field(default_factory=dict)
    test_columns: Columns | None = None
    range: tuple[float, float] | None = None
    no_label: str | None = None
    broken: bool = False
    metrics: tuple[str, ...] = ("accuracy",)
    headline: str = "accuracy"
    parts: tuple[str, ...] = ("",)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, by class index."""
        return tuple(self.labels.values())

    @property
    def is_regression(self) -> bool:
        """Whether labels are scores rather than classes."""
        return self.range is not None

    @property
    def is_pair(self) -> bool:
        """Whether an example is two sentences rather than one."""
        return self.columns.second is not None

    def files(self, kind: str) -> dict[str, str]:
        """Returns the files of the part "dev" or "test", by name."""
        return {
            part or kind: f"{kind}{'_' * bool(part)}{part}.tsv"
            for part in self.parts
        }


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_PAIR = Columns("sentence1", "sentence2", "label")
_ENTAILMENT = _same("entailment", "not_entailment")

GLUE_TASKS: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask(
            "mnli",
            "MNLI",
            _PAIR._replace(label="gold_label"),
            _same("entailment", "neutral", "contradiction"),
            # The label of examples on which annotators did not agree.
            no_label="-",
            parts=("matched", "mismatched"),
        ),
        GlueTask(
            "mrpc",
            "MRPC",
            Columns("#1 String", "#2 String", "Quality", ("#1 ID", "#2 ID")),
            {"0": "not_equivalent", "1": "equivalent"},
            metrics=("accuracy", "f1"),
        ),
        GlueTask(
            "qnli",
            "QNLI",
            Columns("question", "sentence", "label"),
            _ENTAILMENT,
        ),
        GlueTask(
            "qqp",
            "QQP",
            Columns("question1", "question2", "is_duplicate", ("id",)),
            {"0": "not_duplicate", "1": "duplicate"},
            broken=True,
            metrics=("accuracy", "f1"),
        ),
        GlueTask("rte", "RTE", _PAIR, _ENTAILMENT),
        GlueTask(
            "sst2",
            "SST-2",
            Columns("sentence", label="label", ids=()),
            {"0": "negative", "1": "positive"},
            Columns("sentence"),
        ),
        GlueTask(
            "stsb",
            "STS-B",
            _PAIR._replace(label="score"),
            range=(0.0, 5.0),
            metrics=("pearson", "spearman"),
            headline="pearson",
        ),
        GlueTask(
            "cola",
            "CoLA",
            # The columns: source, label, the author's mark, sentence.
            Columns(3, label=1, ids=(), width=4),
            {"0": "unacceptable", "1": "acceptable"},
            Columns("sentence"),
            metrics=("matthews",),
            headline="matthews",
        ),
    )
}
