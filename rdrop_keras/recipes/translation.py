"""Translation: IWSLT14, IWSLT17 and WMT14 (section 3.1, appendix A.1)."""

from __future__ import annotations

from rdrop_keras.recipes.recipe import Recipe
from rdrop_keras.recipes.settings import AuthorsAlpha
from rdrop_keras.recipes.settings import BatchSettings
from rdrop_keras.recipes.settings import DecodingSettings
from rdrop_keras.recipes.settings import DropoutSettings
from rdrop_keras.recipes.settings import ModelSettings
from rdrop_keras.recipes.settings import OptimizerSettings
from rdrop_keras.recipes.settings import Result
from rdrop_keras.recipes.settings import ScheduleSettings
from rdrop_keras.recipes.settings import Searched
from rdrop_keras.recipes.settings import VocabularySettings

PAPER = "appendix A.1"
SCRIPT = "fairseq_src/examples/translation_rdrop/script/run_train.sh"
THREAD = "maintainer in thread 19 of dropreg/R-Drop"
MULTI_BLEU = "tokenized BLEU (multi-bleu.perl)"

EPSILON = (
    "Appendix A.1 has an Adam epsilon of 1e-9; the authors' script leaves it "
    "at fairseq's default of 1e-8."
)
WHOLE_ALPHA = (
    "The authors' code sums both terms over the tokens, so that its 5 is 5 "
    "here; it reads --reg-alpha as a whole number."
)
ONE_DIRECTION = (
    "The authors' repository has scripts for IWSLT14 De-En only; what is "
    "taken from them here is an assumption for this direction."
)
TWO_BASELINES = (
    "The baseline is 34.64 in Table 1 and appendix C.1, 34.78 in Tables 11 "
    "and 12."
)

# English and the other language, with the published BLEU of Table 1:
# (baseline, R-Drop) out of English and into it.
IWSLT = {
    ("iwslt14", "de"): ((28.57, 30.72), (34.64, 37.25)),
    ("iwslt17", "fr"): ((35.9, 38.0), (36.1, 38.9)),
    ("iwslt17", "zh"): ((26.3, 28.1), (18.4, 19.5)),
    ("iwslt14", "es"): ((39.0, 41.8), (40.6, 43.2)),
}


def _iwslt(
    campaign: str, pair: tuple[str, str], scores: tuple[float, float]
) -> Recipe:
    source, target = pair
    name = f"{campaign}_{source}_{target}"
    other = source if target == "en" else target
    discrepancies = (EPSILON, WHOLE_ALPHA)
    if name == "iwslt14_de_en":
        discrepancies += (TWO_BASELINES,)
        searched = (
            Searched(
                setting="alpha",
                values=(1, 3, 5, 7, 10),
                source="section 4.5, Table 7",
            ),
        )
    else:
        discrepancies += (ONE_DIRECTION,)
        searched = ()
    return Recipe(
        name=name,
        task="translation",
        dataset=f"{campaign.upper()} En-{other.title()}",
        model=ModelSettings(
            name="transformer_iwslt_de_en",
            encoder_layers=6,
            decoder_layers=6,
            hidden_size=512,
            feed_forward_size=1024,
            attention_heads=4,
            source=f"{PAPER}; sizes of fairseq's architecture",
        ),
        alpha=5.0,
        alpha_source="appendix A.1",
        divergence="categorical",
        dropout=DropoutSettings(rate=0.3, source=PAPER),
        optimizer_settings=OptimizerSettings(
            name="adam",
            betas=(0.9, 0.98),
            epsilon=1e-9,
            weight_decay=1e-4,
            source=PAPER,
        ),
        schedule=ScheduleSettings(
            kind="inverse_square_root",
            learning_rate=5e-4,
            warmup_updates=4000,
            initial_learning_rate=1e-7,
            total_updates=300_000,
            source=f"{PAPER}; first rate and updates: {SCRIPT}",
        ),
        batch=BatchSettings(
            tokens=4096,
            gradient_accumulation_steps=1,
            devices=1,
            hardware="1 RTX 3090",
            source=f"{PAPER}, C.1",
        ),
        vocabulary=VocabularySettings(
            kind="byte pair encoding",
            size=10_000,
            joint=other != "zh",
            source=PAPER,
        ),
        decoding=DecodingSettings(
            beam_size=5, length_penalty=1.0, source=PAPER
        ),
        label_smoothing=0.1,
        results=(
            Result(
                metric=MULTI_BLEU if other == "de" else "sacreBLEU",
                split="test",
                baseline=scores[0],
                rdrop=scores[1],
                source="Table 1",
            ),
        ),
        authors_alpha=AuthorsAlpha(
            value=5.0, convert_from="authors_fairseq", alpha=5.0
        ),
        searched=searched,
        discrepancies=discrepancies,
    )


def _wmt(
    target: str,
    results: tuple[Result, ...],
    weight_decay: float | None,
    schedule: ScheduleSettings,
    batch: BatchSettings,
    decoding: DecodingSettings,
    discrepancies: tuple[str, ...],
) -> Recipe:
    return Recipe(
        name=f"wmt14_en_{target}",
        task="translation",
        dataset=f"WMT14 En-{target.title()}",
        model=ModelSettings(
            name="transformer_vaswani_wmt_en_de_big",
            encoder_layers=6,
            decoder_layers=6,
            hidden_size=1024,
            feed_forward_size=4096,
            attention_heads=16,
            source=f"{PAPER}; sizes of fairseq's architecture",
        ),
        alpha=5.0,
        alpha_source="appendix A.1",
        divergence="categorical",
        dropout=DropoutSettings(
            rate=0.1, attention=0.1, activation=0.1, source=PAPER
        ),
        optimizer_settings=OptimizerSettings(
            name="adam",
            betas=(0.9, 0.98),
            epsilon=1e-9,
            weight_decay=weight_decay,
            source=PAPER
            if weight_decay is None
            else f"{PAPER}; weight decay: {THREAD}",
        ),
        schedule=schedule,
        batch=batch,
        vocabulary=VocabularySettings(
            kind="byte pair encoding",
            size=32_000,
            joint=True if target == "de" else None,
            source=PAPER if target != "de" else f"{PAPER}; joint: {THREAD}",
        ),
        decoding=decoding,
        label_smoothing=0.1,
        results=results,
        authors_alpha=AuthorsAlpha(
            value=5.0, convert_from="authors_fairseq", alpha=5.0
        ),
        discrepancies=discrepancies,
    )


def _wmt_results(
    baseline: float, rdrop: float, sacrebleu: float
) -> tuple[Result, ...]:
    return (
        Result(
            metric=MULTI_BLEU,
            split="test",
            baseline=baseline,
            rdrop=rdrop,
            source="Table 2",
        ),
        Result(
            metric="sacreBLEU",
            split="test",
            baseline=None,
            rdrop=sacrebleu,
            source=PAPER,
        ),
    )


WMT = (
    _wmt(
        "de",
        _wmt_results(29.12, 30.91, 29.5),
        weight_decay=0.0,
        schedule=ScheduleSettings(
            kind="inverse_square_root",
            learning_rate=5e-4,
            warmup_updates=4000,
            initial_learning_rate=1e-7,
            total_updates=300_000,
            source=f"{PAPER}; first rate and updates: {THREAD}",
        ),
        batch=BatchSettings(
            tokens=4096,
            gradient_accumulation_steps=16,
            devices=8,
            hardware="8 RTX 3090",
            source=f"{THREAD}; devices: {PAPER}",
        ),
        decoding=DecodingSettings(
            beam_size=4, length_penalty=0.6, source=PAPER
        ),
        discrepancies=(
            "Appendix A.1 has a learning rate of 5e-4 after 4,000 updates of "
            "warm-up; the maintainer's script has 1e-3 after 6,000.",
            "The maintainer scores with compound_split_bleu.sh, which splits "
            "hyphenated words; appendix A.1 names multi-bleu.perl.",
            "The same model has 30.91 tokenized BLEU and 29.5 sacreBLEU.",
            "The maintainer says that dropout 0.2 with alpha 3 may do better.",
            EPSILON,
        ),
    ),
    _wmt(
        "fr",
        _wmt_results(42.69, 43.95, 41.8),
        weight_decay=None,
        schedule=ScheduleSettings(
            kind="inverse_square_root",
            learning_rate=5e-4,
            warmup_updates=4000,
            source=PAPER,
        ),
        batch=BatchSettings(hardware="8 RTX 3090", source=PAPER),
        decoding=DecodingSettings(source="appendix A.1 has that of En-De only"),
        discrepancies=(
            "No script is published for En-Fr. That of En-De has a learning "
            "rate of 1e-3 after 6,000 updates of warm-up, where appendix A.1 "
            "has 5e-4 after 4,000.",
            "The same model has 43.95 tokenized BLEU and 41.8 sacreBLEU.",
        ),
    ),
)

TRANSLATION = (
    *(
        _iwslt(campaign, pair, scores)
        for (campaign, other), both in IWSLT.items()
        for pair, scores in zip((("en", other), (other, "en")), both)
    ),
    *WMT,
)
