"""What other implementations mean by alpha."""

from __future__ import annotations

from typing import NamedTuple

from rdrop_keras.arguments import check_choice
from rdrop_keras.arguments import check_number
from rdrop_keras.arguments import check_whole


class Source(NamedTuple):
    """How one implementation weighs the divergence against the task loss.

    Attributes:
        where: The code, or the part of the paper.
        formula: Its loss. `S = (KL12 + KL21) / 2` for each item, `sum` is over
            the batch, and `CE` and `MSE` are means over the batch.
        factor: Our alpha for a value of 1 in a batch of one item.
        task_weight: The total weight of its task losses; ours is 1.
        summed: Whether it sums `S` over the batch.
        over_classes: Whether it divides `S` by the number of classes.
    """

    where: str
    formula: str
    factor: float
    task_weight: float
    summed: bool = False
    over_classes: bool = False


# fmt: off
SOURCES = {
    "paper": Source(
        "Eq. 4, sections 4.3 and A.4",
        "CE1 + CE2 + value * S", 1.0, 2.0),
    "authors_fairseq": Source(
        "dropreg/R-Drop: translation, summarization (`--reg-alpha`)",
        "sum(CE1 + CE2 + value * S) / tokens", 1.0, 2.0),
    "authors_readme": Source(
        "dropreg/R-Drop: README",
        "(CE1 + CE2) / 2 + value * sum(S)", 2.0, 1.0, summed=True),
    "authors_bert": Source(
        "dropreg/R-Drop: BERT; 0.5 in the source",
        "CE1 + CE2 + value * sum(S)", 1.0, 2.0, summed=True),
    "authors_bert_regression": Source(
        "the same; 1.0 in the source",
        "MSE1 + MSE2 + value * MSE12", 1.0, 2.0),
    "authors_roberta": Source(
        "dropreg/R-Drop: RoBERTa; 0.7 in the source",
        "CE1 / 2 + value * sum(S)", 4.0, 0.5, summed=True),
    "authors_roberta_regression": Source(
        "the same; 0.8 in the source",
        "MSE1 / 2 + value * MSE12", 4.0, 0.5),
    "authors_roberta_token": Source(
        "dropreg/R-Drop: RoBERTa for tokens; 0.05 in the source",
        "CE1 + CE2 + value * sum(KL12 + KL21)", 2.0, 2.0, summed=True),
    "authors_vit": Source(
        "dropreg/R-Drop: ViT (`--alpha`)",
        "CE1 + CE2 + value * sum(KL12 + KL21)", 2.0, 2.0, summed=True),
    "bojone": Source(
        "bojone/r-drop for bert4keras",
        "(CE1 + CE2) / 2 + value * mean(KL12 + KL21) / 4", 1.0, 1.0),
    "bert4torch": Source(
        "`RDropLoss`",
        "(CE1 + CE2) / 2 + value * mean(KL12 + KL21) / 4 / classes", 1.0, 1.0,
        over_classes=True),
    "paddlenlp_prompt": Source(
        "PaddleNLP `PromptTrainer` (`alpha_rdrop`)",
        "(CE1 + CE2) / 2 + value * sum(S)", 2.0, 1.0, summed=True),
    "paddlenlp_question_matching": Source(
        "PaddleNLP's example (`--rdrop_coef`)",
        "CE1 + value * sum(S)", 2.0, 1.0, summed=True),
    "fairseq": Source(
        "`..._with_rdrop` (`--rdrop-alpha`)",
        "sum(CE1 + CE2 + value * S) / tokens", 1.0, 2.0),
    "ofa": Source(
        "OFA (`reg_alpha`)",
        "sum(CE1 + CE2 + value * S) / (2 * tokens)", 1.0, 1.0),
    "mindpet": Source(
        "mindpet `RDropLoss`",
        "(CE1 + CE2) / 2 + value * sum(KL12 + KL21) / 4", 1.0, 1.0,
        summed=True),
}
# fmt: on

WITHOUT_EQUIVALENT = {
    "icefall_cr_ctc": "CR-CTC compares the frames of two augmented views and "
    "stops the gradient of each target, so that no alpha gives the same "
    "gradient. Start from `rdrop=1.0` and tune it",
    "open_retrievals": "It passes raw logits to `KLDivLoss`, which expects "
    "log-probabilities, so that the term is no divergence and may be "
    "negative. Take the paper's alpha for your task",
    "config_ai": "Its task loss is that of the two outputs' mean, and its "
    "divergence has one direction only, so that no alpha gives the same "
    "gradient. Take the paper's alpha for your task",
}


def convert_alpha(
    value: float,
    source: str,
    batch_size: int | None = None,
    num_classes: int | None = None,
) -> float:
    """Converts another implementation's alpha to ours.

    Nearly every implementation of R-Drop means something else by alpha: some
    sum the divergence over the batch, some halve one term only. Ours is the
    paper's, whatever the batch size. The result is the alpha with which
    `1/2 (T_1 + T_2 + alpha * C)` weighs the consistency against the task loss
    as the other code does. The gradients are then parallel.

    `"authors_roberta"`, `"authors_roberta_regression"` and
    `"paddlenlp_question_matching"` omit the task loss of the second pass. The
    result then keeps the ratio to the total weight of the task losses, and
    the gradients are parallel on average over the order of the passes.

    Args:
        value: The alpha (`reg_alpha`, `rdrop_alpha`, `rdrop_coef`, ...) of the
            other code.
        source: The code that `value` comes from, as listed in
            `docs/coming_from.md`: `"paper"`, `"authors_fairseq"`,
            `"authors_readme"`, `"authors_bert"`, `"authors_bert_regression"`,
            `"authors_roberta"`, `"authors_roberta_regression"`,
            `"authors_roberta_token"`, `"authors_vit"`, `"bojone"`,
            `"bert4torch"`, `"paddlenlp_prompt"`,
            `"paddlenlp_question_matching"`, `"fairseq"`, `"ofa"` or
            `"mindpet"`.
        batch_size: The number of items that the other code sums over: the
            rows of one device's micro-batch, each counted once; for token
            classification the tokens that are not padding. Only needed by
            sources that sum over the batch.
        num_classes: The number of classes. Only needed by `"bert4torch"`.

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
    check_choice(
        "source",
        source,
        [*SOURCES],
        "For another implementation, write its loss as `CE1 + CE2 + value * S` "
        'and convert that value as "paper".',
    )
    entry = SOURCES[source]
    alpha = entry.factor * float(value)
    if entry.summed:
        alpha *= _needed(
            "batch_size",
            batch_size,
            source,
            "sums the divergence over the batch",
            "the batch size that `value` was chosen for, on one device and in "
            "one step of gradient accumulation",
        )
    if entry.over_classes:
        alpha /= _needed(
            "num_classes",
            num_classes,
            source,
            "averages the divergence over the classes",
            "the size of the output's last axis",
        )
    return float(alpha)


def _needed(
    name: str, value: int | None, source: str, reason: str, wanted: str
) -> int:
    if value is None:
        raise ValueError(
            f"Expected `{name}` with source={source!r}, which {reason}: "
            f"{SOURCES[source].formula}. Received: {name}=None. Pass {wanted}."
        )
    return value
