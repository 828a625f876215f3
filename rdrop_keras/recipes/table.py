"""Settings and results of all recipes, in the order of the paper."""

from __future__ import annotations

from typing import Any

from rdrop_keras.recipes.discrepancies import discrepancies_of
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

RECIPES: dict[str, Recipe] = {}


def _add(base: Recipe, name: str, **changes: Any) -> None:
    notes = discrepancies_of(name)
    RECIPES[name] = base.replace(name=name, discrepancies=notes, **changes)


# Several settings a line, so that a recipe is seen at a glance.
# fmt: off

# Translation: section 3.1, appendix A.1. Baseline and R-Drop.
TABLE_1 = {
    "iwslt14_en_de": (28.57, 30.72), "iwslt14_de_en": (34.64, 37.25),
    "iwslt17_en_fr": (35.9, 38.0), "iwslt17_fr_en": (36.1, 38.9),
    "iwslt17_en_zh": (26.3, 28.1), "iwslt17_zh_en": (18.4, 19.5),
    "iwslt14_en_es": (39.0, 41.8), "iwslt14_es_en": (40.6, 43.2),
}
TABLE_2 = {"wmt14_en_de": (29.12, 30.91), "wmt14_en_fr": (42.69, 43.95)}
SACREBLEU = {"wmt14_en_de": 29.5, "wmt14_en_fr": 41.8}
MULTI_BLEU = "tokenized BLEU (multi-bleu.perl)"
SCRIPT = "fairseq_src/examples/translation_rdrop/script/run_train.sh"
THREAD = "maintainer in thread 19 of dropreg/R-Drop"

IWSLT = Recipe(
    name="iwslt", task="translation", dataset="IWSLT", results=(),
    model=ModelSettings(
        name="transformer_iwslt_de_en", encoder_layers=6, decoder_layers=6,
        hidden_size=512, feed_forward_size=1024, attention_heads=4,
        source="appendix A.1; sizes of fairseq's architecture"),
    alpha=5.0, alpha_source="appendix A.1",
    dropout=DropoutSettings(rate=0.3, source="appendix A.1"),
    optimizer_settings=OptimizerSettings(
        name="adam", betas=(0.9, 0.98), epsilon=1e-9, weight_decay=1e-4,
        source="appendix A.1"),
    schedule=ScheduleSettings(
        kind="inverse_square_root", learning_rate=5e-4, warmup_updates=4000,
        initial_learning_rate=1e-7, total_updates=300_000,
        source=f"appendix A.1; first rate and updates: {SCRIPT}"),
    batch=BatchSettings(
        tokens=4096, gradient_accumulation_steps=1, devices=1,
        hardware="1 RTX 3090", source="appendix A.1, C.1"),
    vocabulary=VocabularySettings(
        kind="byte pair encoding", size=10_000, joint=True,
        source="appendix A.1"),
    decoding=DecodingSettings(
        beam_size=5, length_penalty=1.0, source="appendix A.1"),
    label_smoothing=0.1, authors_alpha=AuthorsAlpha(5.0, "authors_fairseq"),
)
for name, scores in TABLE_1.items():
    campaign, *pair = name.split("_")
    (other,) = {*pair} - {"en"}
    metric = MULTI_BLEU if other == "de" else "sacreBLEU"
    alphas = Searched("alpha", (1, 3, 5, 7, 10), "section 4.5, Table 7")
    _add(IWSLT, name, dataset=f"{campaign.upper()} En-{other.title()}",
         vocabulary={"joint": other != "zh"},
         results=(Result(metric, "test", *scores, "Table 1"),),
         searched=(alphas,) if name == "iwslt14_de_en" else ())

WMT = IWSLT.replace(
    model={"name": "transformer_vaswani_wmt_en_de_big", "hidden_size": 1024,
           "feed_forward_size": 4096, "attention_heads": 16},
    dropout={"rate": 0.1, "attention": 0.1, "activation": 0.1},
    vocabulary={"size": 32_000},
)
WMT_RESULTS = {
    name: (Result(MULTI_BLEU, "test", *scores, "Table 2"),
           Result("sacreBLEU", "test", None, SACREBLEU[name], "appendix A.1"))
    for name, scores in TABLE_2.items()
}
_add(WMT, "wmt14_en_de", dataset="WMT14 En-De",
     results=WMT_RESULTS["wmt14_en_de"],
     optimizer_settings={
         "weight_decay": 0.0,
         "source": f"appendix A.1; weight decay: {THREAD}"},
     schedule={"source": f"appendix A.1; first rate and updates: {THREAD}"},
     batch=BatchSettings(
         tokens=4096, gradient_accumulation_steps=16, devices=8,
         hardware="8 RTX 3090", source=f"{THREAD}; devices: appendix A.1"),
     vocabulary={"source": f"appendix A.1; joint: {THREAD}"},
     decoding={"beam_size": 4, "length_penalty": 0.6})
_add(WMT, "wmt14_en_fr", dataset="WMT14 En-Fr",
     results=WMT_RESULTS["wmt14_en_fr"],
     optimizer_settings={"weight_decay": None},
     schedule={"initial_learning_rate": None, "total_updates": None,
               "source": "appendix A.1"},
     batch=BatchSettings(hardware="8 RTX 3090", source="appendix A.1"),
     vocabulary={"joint": None},
     decoding=DecodingSettings(source="appendix A.1 has that of En-De only"))

# Language understanding: section 3.2, appendix A.4. Name, updates, batch and
# alpha of Table 8; warm-up of the authors' README; baseline and R-Drop of
# Table 3 for BERT-base and for RoBERTa-large.
GLUE = {
    "mnli": ("MNLI", 123_873, 32, 0.5, 7432, (83.8, 85.5), (90.2, 90.9)),
    "mrpc": ("MRPC", 2296, 16, 1.0, 137, (85.3, 87.3), (90.9, 91.4)),
    "qnli": ("QNLI", 33_112, 32, 1.0, 1986, (90.8, 92.0), (94.7, 95.2)),
    "qqp": ("QQP", 113_272, 32, 0.5, 28_318, (91.0, 91.4), (92.2, 92.5)),
    "rte": ("RTE", 3120, 8, 1.0, 122, (68.2, 71.1), (86.6, 88.4)),
    "sst2": ("SST-2", 20_935, 32, 1.0, 1256, (92.4, 93.0), (96.4, 96.9)),
    "stsb": ("STS-B", 3598, 16, 1.0, 214, (89.3, 89.6), (92.4, 92.5)),
    "cola": ("CoLA", 5336, 16, 0.5, 320, (62.3, 62.6), (68.0, 70.0)),
}
METRICS = {"stsb": "Pearson correlation", "cola": "Matthews correlation"}
# In the authors' code, for classification and for regression.
WEIGHTS = {"bert_base": (0.5, 1.0), "roberta_large": (0.7, 0.8)}
HF_DEFAULTS = "HF Transformers' defaults"
HF_SOURCE = "huggingface_transformer_src"

BERT = Recipe(
    name="bert_base", task="language_understanding", dataset="GLUE",
    results=(),
    model=ModelSettings(
        name="BERT-base", encoder_layers=12, hidden_size=768,
        feed_forward_size=3072, attention_heads=12,
        pretrained="bert-base-cased",
        source=f"appendix A.4; cased: {HF_SOURCE}/bert_rdrop/run.sh"),
    alpha=1.0, alpha_source="appendix A.4, Table 8",
    dropout=DropoutSettings(
        rate=0.1, attention=0.1,
        source=f"appendix A.4; attention: {HF_DEFAULTS}"),
    # Keras names the weights of layer normalization gamma and beta.
    optimizer_settings=OptimizerSettings(
        name="adam", betas=(0.9, 0.98), epsilon=1e-6, weight_decay=0.01,
        global_clipnorm=1.0, undecayed=("bias", "gamma", "beta"),
        source=f"appendix A.4; clipping and undecayed: {HF_DEFAULTS}"),
    schedule=ScheduleSettings(
        kind="polynomial", learning_rate=1e-5, initial_learning_rate=0.0,
        end_learning_rate=1e-7, power=1.0,
        source=f"appendix A.4, Table 8; warm-up: {HF_SOURCE}/README.md; last "
        f"rate, power: {HF_DEFAULTS}"),
    batch=BatchSettings(
        gradient_accumulation_steps=1, devices=1, hardware="1 RTX 3090",
        source="appendix A.4, Table 8"),
    vocabulary=VocabularySettings(
        kind="that of the pre-trained model", source="appendix A.4"),
    searched=(
        Searched("alpha", (0.1, 0.5, 1.0), "section 3.2"),
        Searched("schedule.learning_rate", (5e-6, 1e-5), "appendix A.4"),
        Searched("batch.examples", (8, 16, 32), "appendix A.4")),
)
ROBERTA = BERT.replace(model=ModelSettings(
    name="RoBERTa-large", encoder_layers=24, hidden_size=1024,
    feed_forward_size=4096, attention_heads=16, pretrained="roberta-large",
    source="appendix A.4"))

for index, (model, base) in enumerate(
        (("bert_base", BERT), ("roberta_large", ROBERTA))):
    for task, (label, updates, batch, alpha, warmup, *scores) in GLUE.items():
        code = f"authors_{model.split('_')[0]}"
        if regression := task == "stsb":
            theirs = AuthorsAlpha(WEIGHTS[model][1], f"{code}_regression")
        else:
            theirs = AuthorsAlpha(WEIGHTS[model][0], code, batch)
        metric = METRICS.get(task, "accuracy")
        _add(base, f"glue_{task}_{model}", dataset=f"GLUE {label}",
             alpha=alpha, authors_alpha=theirs,
             divergence="squared_error" if regression else "categorical",
             schedule={"warmup_updates": warmup, "total_updates": updates},
             batch={"examples": batch},
             results=(Result(metric, "dev", *scores[index], "Table 3"),))

# Summarization: section 3.3, appendix A.2. Baseline and R-Drop.
TABLE_4 = {"ROUGE-1": (44.16, 44.51), "ROUGE-2": (21.28, 21.58),
           "ROUGE-L": (40.90, 41.24)}
SUMMARIZATION = "fairseq_src/examples/summeration_rdrop/script"
TRAIN = f"{SUMMARIZATION}/run_train.sh"

_add(Recipe(
    name="bart_large", task="summarization", dataset="CNN/DailyMail",
    model=ModelSettings(
        name="BART-large", encoder_layers=12, decoder_layers=12,
        hidden_size=1024, feed_forward_size=4096, attention_heads=16,
        pretrained="bart.large", source="appendix A.2, which follows BART"),
    alpha=0.7, alpha_source="appendix A.2",
    dropout=DropoutSettings(rate=0.1, attention=0.1, source=TRAIN),
    optimizer_settings=OptimizerSettings(
        name="adam", betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.01,
        global_clipnorm=0.1, source=TRAIN),
    schedule=ScheduleSettings(
        kind="polynomial", learning_rate=3e-5, warmup_updates=500,
        total_updates=20_000, initial_learning_rate=0.0,
        end_learning_rate=0.0, power=1.0,
        source=f"{TRAIN}; first and last rate, power: fairseq's defaults"),
    batch=BatchSettings(
        tokens=1024, gradient_accumulation_steps=16, devices=4,
        hardware="8 RTX 3090", source=f"{TRAIN}; hardware: appendix A.2"),
    vocabulary=VocabularySettings(
        kind="GPT-2 byte pair encoding of the pre-trained model", joint=True,
        source=f"{SUMMARIZATION}/preprocess.sh"),
    decoding=DecodingSettings(
        beam_size=4, length_penalty=2.0, min_length=55, max_length=140,
        no_repeat_ngram_size=3, source=f"{SUMMARIZATION}/run_inference.py"),
    label_smoothing=0.1, authors_alpha=AuthorsAlpha(0.7, "authors_fairseq"),
    results=tuple(Result(metric, "test", *scores, "Table 4")
                  for metric, scores in TABLE_4.items()),
), "cnn_dailymail_bart_large")

# Language modeling: section 3.4, appendix A.3. Table 5, baseline and R-Drop,
# of the test and the validation split.
TABLE_5 = {"wikitext103_transformer": ((26.62, 24.94), (25.76, 23.97)),
           "wikitext103_adaptive": ((18.87, 18.07), (18.94, 18.18))}
LM_RESULTS = {
    name: tuple(Result("perplexity", split, *scores, "Table 5", False)
                for split, scores in zip(("test", "valid"), both))
    for name, both in TABLE_5.items()
}
LANGUAGE_MODEL = "fairseq_src/examples/language_model_rdrop/script"
TRANSFORMER = f"{LANGUAGE_MODEL}/train_lm_wiki103_rdrop.sh"
ADAPTIVE = f"{LANGUAGE_MODEL}/train_lm_adaptive_wiki103_rdrop.sh"

GPT = Recipe(
    name="gpt", task="language_modeling", dataset="WikiText-103",
    model=ModelSettings(
        name="transformer_lm_gpt", decoder_layers=12, hidden_size=768,
        feed_forward_size=3072, attention_heads=12, source="appendix A.3"),
    alpha=1.0, alpha_source="appendix A.3, not tuned",
    dropout=DropoutSettings(rate=0.1, attention=0.1, source="appendix A.3"),
    optimizer_settings=OptimizerSettings(
        name="adam", betas=(0.9, 0.98), epsilon=1e-8, weight_decay=0.01,
        source=f"{TRANSFORMER}; epsilon: fairseq's default"),
    schedule=ScheduleSettings(
        kind="inverse_square_root", learning_rate=5e-4, warmup_updates=4000,
        initial_learning_rate=1e-7, total_updates=50_000, source=TRANSFORMER),
    batch=BatchSettings(
        tokens=2000, gradient_accumulation_steps=16, devices=8,
        sequence_length=512, hardware="8 V100",
        source=f"{TRANSFORMER}; hardware: appendix A.3"),
    vocabulary=VocabularySettings(
        kind="words", joint=True, source=TRANSFORMER),
    decoding=DecodingSettings(
        context_window=400,
        source=f"{LANGUAGE_MODEL}/evaluate_lm_wiki103.sh"),
    authors_alpha=AuthorsAlpha(1.0, "authors_fairseq"),
    results=LM_RESULTS["wikitext103_transformer"],
)
_add(GPT, "wikitext103_transformer")
_add(GPT, "wikitext103_adaptive",
     model={"name": "transformer_lm_wiki103", "decoder_layers": 16,
            "hidden_size": 1024, "feed_forward_size": 4096,
            "attention_heads": 16},
     dropout={"rate": 0.3, "activation": 0.1, "adaptive_softmax": 0.2},
     optimizer_settings=OptimizerSettings(
         name="nesterov", momentum=0.99, weight_decay=0.0,
         global_clipnorm=0.1,
         source=f"{ADAPTIVE}; momentum, weight decay: fairseq's defaults"),
     schedule=ScheduleSettings(
         kind="cosine", learning_rate=1.0, warmup_updates=16_000,
         initial_learning_rate=1e-7, end_learning_rate=1e-4,
         total_updates=286_000,
         source=f"appendix A.3; first and last rate: {ADAPTIVE}"),
     batch={"tokens": 3072, "gradient_accumulation_steps": 3,
            "sequence_length": 3072,
            "source": f"{ADAPTIVE}; hardware: appendix A.3"},
     vocabulary={"adaptive_cutoffs": (20_000, 60_000),
                 "source": "fairseq's architecture"},
     results=LM_RESULTS["wikitext103_adaptive"], authors_alpha=None)

# Image classification: section 3.5, appendix A.5. Baseline and R-Drop.
TABLE_6 = {
    "cifar100_vit_b_16": (92.64, 93.29), "cifar100_vit_l_16": (93.44, 93.85),
    "imagenet_vit_b_16": (83.97, 84.38), "imagenet_vit_l_16": (85.15, 85.57),
}
# Name, split, updates and searched learning rates of the ViT paper.
IMAGES = {
    "cifar100": ("CIFAR-100", "test", 10_000, (0.001, 0.003, 0.01, 0.03)),
    "imagenet": ("ImageNet", "validation", 20_000, (0.003, 0.01, 0.03, 0.06)),
}
VIT_PAPER = ("Table 4 of the ViT paper (arXiv 2010.11929), which section 3.5 "
             "follows")
CODE = "vit_src/train.py"

VIT_B = Recipe(
    name="vit_b_16", task="image_classification", dataset="images", results=(),
    model=ModelSettings(
        name="ViT-B/16", encoder_layers=12, hidden_size=768,
        feed_forward_size=3072, attention_heads=12, patch_size=16,
        image_size=384, pretrained="ImageNet-21k",
        source=f"section 3.5; image size: {CODE}"),
    alpha=0.6, alpha_source="section 3.5, appendix A.5",
    dropout=DropoutSettings(
        rate=0.1, attention=0.0,
        source="appendix A.5; attention: vit_src/models/configs.py"),
    optimizer_settings=OptimizerSettings(
        name="sgd", momentum=0.9, weight_decay=0.0, global_clipnorm=1.0,
        source=CODE),
    schedule=ScheduleSettings(
        kind="cosine", learning_rate=0.01, warmup_updates=500,
        initial_learning_rate=0.0, end_learning_rate=0.0,
        source=f"{CODE}; updates: {VIT_PAPER}"),
    batch=BatchSettings(
        examples=32, gradient_accumulation_steps=16, devices=1,
        hardware="8 RTX 3090",
        source=f"appendix A.5, 512 an update; accumulation: {CODE}"),
    authors_alpha=AuthorsAlpha(0.3, "authors_vit", 32),
)
VIT_L = VIT_B.replace(model={
    "name": "ViT-L/16", "encoder_layers": 24, "hidden_size": 1024,
    "feed_forward_size": 4096, "attention_heads": 16})

for name, scores in TABLE_6.items():
    label, split, updates, rates = IMAGES[name.split("_")[0]]
    _add(VIT_B if "_b_" in name else VIT_L, name, dataset=label,
         schedule={"total_updates": updates},
         results=(Result("accuracy", split, *scores, "Table 6"),),
         searched=(Searched("schedule.learning_rate", rates, VIT_PAPER),))
