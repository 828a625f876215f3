"""Which problem a dataset poses."""

from __future__ import annotations

from reproduce.text_classification.data import Dataset
from reproduce.text_classification.glue import GlueDataset
from reproduce.text_classification.glue_problem import GlueProblem
from reproduce.text_classification.problem import Problem
from reproduce.text_classification.regression import RegressionDataset
from reproduce.text_classification.regression_problem import RegressionProblem
from reproduce.text_classification.text_problem import TextProblem

AnyDataset = Dataset | GlueDataset | RegressionDataset


def problem_of(dataset: AnyDataset) -> Problem:
    """Returns the problem that goes with a dataset."""
    if isinstance(dataset, GlueDataset):
        return GlueProblem(dataset)
    if isinstance(dataset, RegressionDataset):
        return RegressionProblem(dataset)
    return TextProblem(dataset)
