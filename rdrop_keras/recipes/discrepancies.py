"""Where the paper, its authors' code and other reports differ.

Each paragraph begins with the names of the recipes it is about, as patterns.
"""

from __future__ import annotations

import fnmatch

TEXT = """
iwslt* wmt14_en_de: Appendix A.1 has an Adam epsilon of 1e-9; the authors'
script leaves it at fairseq's default of 1e-8.

iwslt*: The authors' code sums both terms over the tokens, so that its alpha is
the paper's; it reads --reg-alpha as a whole number.

iwslt14_de_en: The baseline is 34.64 in Table 1 and appendix C.1, but 34.78 in
Tables 11 and 12.

iwslt14_en_de iwslt14_en_es iwslt14_es_en iwslt17*: The authors' repository has
scripts for IWSLT14 De-En only. The values from these scripts are an assumption
for this direction.

wmt14_en_de: Appendix A.1 has a learning rate of 5e-4 after 4,000 updates of
warm-up; the maintainer's script has 1e-3 after 6,000.

wmt14_en_de: The maintainer scores with compound_split_bleu.sh, which splits
hyphenated words; appendix A.1 names multi-bleu.perl.

wmt14_en_de: The maintainer says that dropout 0.2 with alpha 3 may do better.

wmt14_en_fr: No script is published for En-Fr. The script for En-De has a
learning rate of 1e-3 after 6,000 updates of warm-up, where appendix A.1 has
5e-4 after 4,000.

wmt14_*: The tokenized BLEU and the sacreBLEU in `results` belong to the same
model.

glue_cola_* glue_m* glue_q* glue_rte_* glue_sst2_*: The authors' code sums the
divergence over the batch and averages the task loss, with a fixed weight for
each model, whatever Table 8 says.

glue_stsb_*: Eq. 7 and 8 are printed with norms; the authors' code has mean
squares, and a fixed weight of the divergence for each model, whatever Table 8
says.

glue_*_roberta_large: The authors' code for RoBERTa trains on half the task
loss of the first pass only, since a loop over the passes is missing.

glue_rte_*: Table 8 has 3,120 updates; the authors' README has 2,036.

glue_mnli_bert_base: Table 9, which does not name its model, has 84.48 with the
alpha of Table 8; Table 3 has 85.5.

glue_mrpc_bert_base: Table 9, which does not name its model, has 86.51 with the
alpha of Table 8; Table 3 has 87.3. Thread 30 of dropreg/R-Drop reports 82.8
with bert-base-uncased.

glue_rte_bert_base: Thread 30 of dropreg/R-Drop reports 66.4 with
bert-base-uncased.

glue_cola_bert_base: Thread 30 of dropreg/R-Drop reports 58.1 with
bert-base-uncased.

glue_*: The maintainers say that many of these results need a particular random
seed and settings (thread 23 of dropreg/R-Drop); the only published seed is 5,
for MRPC in run.sh.

glue_*: Table 8 has one setting for each task, used here for both models.

cnn_dailymail_bart_large: Appendix A.2 names 8 devices; the authors' script has
4 with 16 accumulated batches of 1,024 tokens, which makes as many tokens per
update as fairseq's example for BART (8 times 4 times 2,048).

cnn_dailymail_bart_large: The baseline is the result in the BART paper.

wikitext103_transformer: The authors' code for this model cannot run as
published: its criterion asks the batch for `prev_output_tokens`, which
fairseq's language modeling batches do not have. (Read, not run.)

wikitext103_adaptive: Appendix A.3 has 286,000 updates in one period of the
cosine. The authors' script for R-Drop has 320,000, past a restart at 0.75 of
the highest rate, and starts from the best checkpoint in its folder; their
script for the baseline has 286,000.

wikitext103_adaptive: The paper's model has 16 attention heads; fairseq's
transformer_lm_wiki103, which the authors' script names, has 8.

wikitext103_adaptive: The authors' code does not compute the KL divergence over
the vocabulary. It adds one term for each cluster of the adaptive softmax, and
those of the rarer clusters only for tokens whose target is in them. Its weight
therefore has no equivalent here.

wikitext103_adaptive: The authors' code for this model cannot run as published:
it multiplies by an attribute that is never set. (Read, not run.)

cifar100_* imagenet_*: The authors' code omits the half of Eq. 2 and halves
alpha, which agrees with the paper. But it sums the divergence over the images
of a forward pass and averages the task loss, so that the weight depends on the
number of accumulated batches.

cifar100_* imagenet_*: The settings are the ViT paper's by reference; the
authors' code has a default of 200,000 updates.

cifar100_* imagenet_*: The authors' code reports the best accuracy among
evaluations on the test split, every 100 updates.

cifar100_* imagenet_*: The authors' code steps the schedule before the
optimizer, so that its learning rate is one update ahead.

cifar100_vit_b_16: With the authors' code a co-author reproduced this result at
image size 224, learning rate 8e-3 and 20,000 updates (thread 25 of
dropreg/R-Drop). Others published 92.65 to 92.71 (zpc-666/Paddle-R-Drop), and
93.44 with the loss of the authors' README (zbp-xxxp/R-Drop-Paddle); no
baselines of their own are known.
"""
DISCREPANCIES = [
    " ".join(paragraph.split()).split(": ", 1)
    for paragraph in TEXT.split("\n\n")
]


def discrepancies_of(name: str) -> tuple[str, ...]:
    """Returns the sentences about a recipe."""
    return tuple(
        sentence
        for patterns, sentence in DISCREPANCIES
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split())
    )
