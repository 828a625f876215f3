"""What other implementations mean by alpha, in terms of ours."""

from __future__ import annotations

import dataclasses

from rdrop_keras.arguments import check_number
from rdrop_keras.arguments import check_whole


@dataclasses.dataclass(frozen=True)
class Source:
    """How one implementation weighs consistency against the task loss.

    Attributes:
        formula: Its loss, with `S = (KL12 + KL21) / 2` for each item. `CE` and
            `MSE` are means over the batch, `sum` goes over the batch.
        factor: Our alpha for a value of 1 in a batch of one item.
        summed: Whether it sums `S` over the batch, so that its value grows
            with the batch size.
        over_classes: Whether it divides `S` by the number of classes.
        task_weight: The total weight of its task losses, where ours is 1.
            With both task losses in it, its gradient is this many times ours.
    """

    formula: str
    factor: float
    summed: bool = False
    over_classes: bool = False
    task_weight: float = 1.0

    def alpha(
        self, value: float, batch_size: int | None, num_classes: int | None
    ) -> float:
        """Returns our alpha for its value."""
        alpha = self.factor * value
        if self.summed:
            alpha *= batch_size
        if self.over_classes:
            alpha /= num_classes
        return alpha


SOURCES = {
    "paper": Source("CE1 + CE2 + value * S", 1.0, task_weight=2.0),
    "authors_fairseq": Source(
        "sum(CE1 + CE2 + value * S) / tokens", 1.0, task_weight=2.0
    ),
    "authors_readme": Source(
        "(CE1 + CE2) / 2 + value * sum(S)", 2.0, summed=True
    ),
    "authors_bert": Source(
        "CE1 + CE2 + value * sum(S)", 1.0, summed=True, task_weight=2.0
    ),
    "authors_bert_regression": Source(
        "MSE1 + MSE2 + value * MSE12", 1.0, task_weight=2.0
    ),
    "authors_roberta": Source(
        "CE1 / 2 + value * sum(S)", 4.0, summed=True, task_weight=0.5
    ),
    "authors_roberta_regression": Source(
        "MSE1 / 2 + value * MSE12", 4.0, task_weight=0.5
    ),
    "authors_roberta_token": Source(
        "CE1 + CE2 + value * sum(KL12 + KL21)",
        2.0,
        summed=True,
        task_weight=2.0,
    ),
    "authors_vit": Source(
        "CE1 + CE2 + value * sum(KL12 + KL21)",
        2.0,
        summed=True,
        task_weight=2.0,
    ),
    "bojone": Source("(CE1 + CE2) / 2 + value * mean(KL12 + KL21) / 4", 1.0),
    "bert4torch": Source(
        "(CE1 + CE2) / 2 + value * mean(KL12 + KL21) / 4 / classes",
        1.0,
        over_classes=True,
    ),
    "paddlenlp_prompt": Source(
        "(CE1 + CE2) / 2 + value * sum(S)", 2.0, summed=True
    ),
    "paddlenlp_question_matching": Source(
        "CE1 + value * sum(S)", 2.0, summed=True
    ),
    "fairseq": Source(
        "sum(CE1 + CE2 + value * S) / tokens", 1.0, task_weight=2.0
    ),
    "ofa": Source("sum(CE1 + CE2 + value * S) / (2 * tokens)", 1.0),
    "mindpet": Source(
        "(CE1 + CE2) / 2 + value * sum(KL12 + KL21) / 4", 1.0, summed=True
    ),
}

WITHOUT_EQUIVALENT = {
    "icefall_cr_ctc": (
        "CR-CTC compares the frames of two augmented views, each with a "
        "target that is cut off from the gradient, so that no alpha gives "
        "the same gradient. Start from `rdrop=1.0` and choose it anew"
    ),
    "open_retrievals": (
        "It puts raw logits where `KLDivLoss` takes log-probabilities, so "
        "that what it adds is no divergence and may be negative. Take the "
        "paper's alpha for your task"
    ),
    "config_ai": (
        "Its task loss is that of the two outputs' mean, and its divergence "
        "goes one way only, so that no alpha gives the same gradient. Take "
        "the paper's alpha for your task"
    ),
}


def convert_alpha(
    value: float,
    source: str,
    batch_size: int | None = None,
    num_classes: int | None = None,
) -> float:
    """Converts another implementation's alpha to ours.

    Nearly every implementation of R-Drop means something else by alpha: some
    sum the divergence over the batch, some halve one term and not the other.
    Ours is the paper's, whatever the batch size. The result is the alpha at
    which `1/2 (T_1 + T_2 + alpha * C)` weighs consistency against the task
    loss as the other code does; the gradients are then parallel.

    `"authors_roberta"`, `"authors_roberta_regression"` and
    `"paddlenlp_question_matching"` leave out the task loss of the second
    pass. Both passes being drawn alike, the ratio kept is that to the total
    weight of the task losses; the gradients are parallel in the mean over the
    order of the passes.

    Args:
        value: The alpha (`reg_alpha`, `rdrop_alpha`, `rdrop_coef`, ...) there.
            Some have it in the source only: 0.5 in the authors' BERT (1.0 for
            regression), 0.7 in their RoBERTa (0.8 for regression, 0.05 for
            token classification).
        source: Where `value` comes from:
            `"paper"`: Eq. 4, sections 4.3 and A.4 of the paper.
            `"authors_fairseq"`: the authors' translation and summarization.
            `"authors_readme"`: the snippet in the authors' README.
            `"authors_bert"`, `"authors_bert_regression"`,
            `"authors_roberta"`, `"authors_roberta_regression"`,
            `"authors_roberta_token"`: the authors' Hugging Face models.
            `"authors_vit"`: the authors' image classification.
            `"bojone"`: bojone/r-drop, for bert4keras.
            `"bert4torch"`: bert4torch's `RDropLoss`.
            `"paddlenlp_prompt"`: PaddleNLP's `PromptTrainer`.
            `"paddlenlp_question_matching"`: PaddleNLP's example of that name.
            `"fairseq"`: fairseq's `label_smoothed_cross_entropy_with_rdrop`.
            `"ofa"`: OFA's `adjust_label_smoothed_cross_entropy`.
            `"mindpet"`: mindpet's `RDropLoss`.
        batch_size: The number of items that the other code sums over: the
            rows of one device's micro-batch, each counted once; for token
            classification the tokens that are not padding. Needed by the
            sources that sum over the batch, unused by the others.
        num_classes: The number of classes. Needed by `"bert4torch"` only.

    Returns:
        The alpha to pass to `compile(rdrop=...)`.

    Raises:
        TypeError: If a number is of the wrong type.
        ValueError: If the source is unknown or has no equivalent, if it needs
            `batch_size` or `num_classes` and they are missing, or if a number
            is out of range.

    Example:

    >>> rdrop_keras.convert_alpha(5.0, "fairseq")
    5.0
    >>> rdrop_keras.convert_alpha(0.5, "authors_bert", batch_size=16)
    8.0
    >>> rdrop_keras.convert_alpha(4, "bert4torch", num_classes=8)
    0.5

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 2.1,
        Eq. 4.
    """
    check_number("value", value, "To convert a schedule, convert its values.")
    if batch_size is not None:
        check_whole("batch_size", batch_size, least=1)
    if num_classes is not None:
        check_whole("num_classes", num_classes, least=2)
    if isinstance(source, str) and source in WITHOUT_EQUIVALENT:
        raise ValueError(
            "Expected `source` to be an implementation that our alpha can "
            f"follow. Received: source={source!r}. "
            f"{WITHOUT_EQUIVALENT[source]}."
        )
    if not isinstance(source, str) or source not in SOURCES:
        raise ValueError(
            f"Expected `source` to be one of {list(SOURCES)}. Received: "
            f"source={source!r}. For another implementation, write its loss "
            'as `CE1 + CE2 + value * S` and convert that value as "paper".'
        )
    entry = SOURCES[source]
    if entry.summed and batch_size is None:
        raise ValueError(
            f"Expected `batch_size` with source={source!r}, which sums the "
            f"divergence over the batch: {entry.formula}. Received: "
            "batch_size=None. Pass the batch size that `value` was chosen "
            "for, on one device and in one step of gradient accumulation."
        )
    if entry.over_classes and num_classes is None:
        raise ValueError(
            f"Expected `num_classes` with source={source!r}, which averages "
            f"the divergence over the classes: {entry.formula}. Received: "
            "num_classes=None. Pass the size of the output's last axis."
        )
    return float(entry.alpha(float(value), batch_size, num_classes))
