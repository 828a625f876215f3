"""Which problem a dataset poses."""

from __future__ import annotations

from examples.text_classification.data import Dataset
from examples.text_classification.glue import GlueDataset
from examples.text_classification.glue_problem import GlueProblem
from examples.text_classification.problem import Problem
from examples.text_classification.regression import RegressionDataset
from examples.text_classification.regression_problem import RegressionProblem
from examples.text_classification.text_problem import TextProblem

AnyDataset = Dataset | GlueDataset | RegressionDataset


def problem_of(dataset: AnyDataset) -> Problem:
    """Returns the problem that goes with a dataset."""
    if isinstance(dataset, GlueDataset):
        return GlueProblem(dataset)
    if isinstance(dataset, RegressionDataset):
        return RegressionProblem(dataset)
    return TextProblem(dataset)
