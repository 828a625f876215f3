"""Summarization: CNN/DailyMail (section 3.3, appendix A.2)."""

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
from rdrop_keras.recipes.settings import VocabularySettings

PAPER = "appendix A.2, which follows BART"
SCRIPTS = "fairseq_src/examples/summeration_rdrop/script/"
TRAIN = f"{SCRIPTS}run_train.sh"
# ROUGE-1, ROUGE-2 and ROUGE-L of Table 4.
ROUGE = {"1": (44.16, 44.51), "2": (21.28, 21.58), "L": (40.90, 41.24)}

SUMMARIZATION = (
    Recipe(
        name="cnn_dailymail_bart_large",
        task="summarization",
        dataset="CNN/DailyMail",
        model=ModelSettings(
            name="BART-large",
            encoder_layers=12,
            decoder_layers=12,
            hidden_size=1024,
            feed_forward_size=4096,
            attention_heads=16,
            pretrained="bart.large",
            source=PAPER,
        ),
        alpha=0.7,
        alpha_source="appendix A.2",
        divergence="categorical",
        dropout=DropoutSettings(rate=0.1, attention=0.1, source=TRAIN),
        optimizer_settings=OptimizerSettings(
            name="adam",
            betas=(0.9, 0.999),
            epsilon=1e-8,
            weight_decay=0.01,
            global_clipnorm=0.1,
            source=TRAIN,
        ),
        schedule=ScheduleSettings(
            kind="polynomial",
            learning_rate=3e-5,
            warmup_updates=500,
            total_updates=20_000,
            initial_learning_rate=0.0,
            end_learning_rate=0.0,
            power=1.0,
            source=f"{TRAIN}; first and last rate, power: fairseq's defaults",
        ),
        batch=BatchSettings(
            tokens=1024,
            gradient_accumulation_steps=16,
            devices=4,
            hardware="8 RTX 3090",
            source=f"{TRAIN}; hardware: appendix A.2",
        ),
        vocabulary=VocabularySettings(
            kind="GPT-2 byte pair encoding of the pre-trained model",
            joint=True,
            source=f"{SCRIPTS}preprocess.sh",
        ),
        decoding=DecodingSettings(
            beam_size=4,
            length_penalty=2.0,
            min_length=55,
            max_length=140,
            no_repeat_ngram_size=3,
            source=f"{SCRIPTS}run_inference.py",
        ),
        label_smoothing=0.1,
        results=tuple(
            Result(
                metric=f"ROUGE-{kind}",
                split="test",
                baseline=baseline,
                rdrop=rdrop,
                source="Table 4",
            )
            for kind, (baseline, rdrop) in ROUGE.items()
        ),
        authors_alpha=AuthorsAlpha(
            value=0.7, convert_from="authors_fairseq", alpha=0.7
        ),
        discrepancies=(
            "Appendix A.2 names 8 devices; the authors' script has 4 with 16 "
            "accumulated batches of 1,024 tokens, which is as many tokens an "
            "update as in fairseq's example for BART, 8 times 4 times 2,048.",
            "The baseline is the result that the paper on BART reports.",
        ),
    ),
)
