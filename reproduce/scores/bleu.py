"""BLEU and chrF, computed by sacreBLEU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sacrebleu

from reproduce.common.errors import InputError


@dataclass(frozen=True)
class Scores:
    """Scores of a corpus, from 0 to 100.

    sacreBLEU's signature states tokenizer, smoothing, case and version. Scores
    are comparable only between equal signatures.
    """

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str

    def values(self) -> dict[str, float]:
        """Returns the scores by name. The first one selects checkpoints."""
        return {"bleu": self.bleu, "chrf": self.chrf}

    def __str__(self) -> str:
        return (
            f"BLEU {self.bleu:.2f}  {self.bleu_signature}\n"
            f"chrF {self.chrf:.2f}  {self.chrf_signature}"
        )


def score(
    translations: Sequence[str],
    references: Sequence[str],
    target_language: str | None = None,
) -> Scores:
    """Scores translations against one reference each, all detokenized.

    Chinese, Japanese and Korean have special tokenizers; all others share
    `13a`.
    """
    if len(translations) != len(references) or not references:
        raise InputError(
            "Expected one reference for each translation. Got "
            f"{len(translations)} translations and {len(references)} "
            "references."
        )
    bleu = sacrebleu.BLEU(tokenize=_tokenizer(target_language))
    chrf = sacrebleu.CHRF()
    return Scores(
        bleu=bleu.corpus_score(list(translations), [list(references)]).score,
        chrf=chrf.corpus_score(list(translations), [list(references)]).score,
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )


def _tokenizer(language: str | None) -> str:
    # sacreBLEU's word tokenizers for Japanese and Korean need further packages;
    # its character tokenizer does not.
    code = (language or "").split("_")[0].split("-")[0].lower()
    return {"zh": "zh", "ja": "char", "ko": "char"}.get(code, "13a")
