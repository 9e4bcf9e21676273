"""Tiny random models of other libraries, saved by those libraries, with tokenizers trained on a few sentences."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sentencepiece
import torch
import transformers as tf
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import Unigram, WordPiece

SENTENCES = [
    "a photo of a cat on the grass",
    "two dogs, and a big red star!",
    "größer ☃ und grün",
    "一张猫的照片 日本語",
    "A Photo OF a BLUE circle.",
]
TEXTS = [  # short, empty, over-long, upper case, non-Latin, padding and end tokens as text
    "a cat",
    "",
    "two dogs on the grass, " * 12,
    "A PHOTO OF A CAT!",
    "größer ☃ 一张猫",
    "a  photo\nof [PAD] a </s> dog <pad>.",
    "!",
]
CONTEXT = 24
TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
VISION = {**TOWER, "image_size": 32, "patch_size": 16}
IMAGES = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


def clip_tokenizer(**special: str) -> Any:
    """Byte pairs as in CLIP; the end token is the padding, too."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: row for row, piece in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    merges = [("a", "t</w>"), ("d", "o"), ("c", "at</w>"), ("o", "f</w>")]
    for piece in ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]:
        vocabulary[piece] = len(vocabulary)
    return tf.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT, **special)


def bert_tokenizer(**settings: Any) -> Any:
    """Word pieces, padded with 0."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained = Tokenizer(WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    trained.train_from_iterator([sentence.lower() for sentence in SENTENCES], trainer)
    return tf.BertTokenizer(vocab=trained.get_vocab(), model_max_length=CONTEXT, **settings)


def xlm_tokenizer() -> Any:
    """Unigrams as of XLM-R, padded with 1; two of its positions are not for tokens."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = Tokenizer(Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator(SENTENCES, trainer)
    pieces = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    return tf.XLMRobertaTokenizer(vocab=[(piece, -float(row)) for piece, row in pieces], model_max_length=CONTEXT)


def siglip_tokenizer(inputs: tuple[str, ...] = ("input_ids",)) -> Any:
    """SigLIP's: sentencepiece without case and punctuation, padded with the end token 1, without a mask."""
    with TemporaryDirectory() as folder:
        text, prefix = Path(folder) / "sentences.txt", Path(folder) / "spiece"
        text.write_text("\n".join(SENTENCES))
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(prefix), vocab_size=90, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
            minloglevel=3, hard_vocab_limit=False,
        )  # fmt: skip
        return tf.SiglipTokenizer(f"{prefix}.model", model_max_length=CONTEXT, model_input_names=list(inputs))


def siglip2_tokenizer() -> Any:
    """SigLIP 2's: Gemma's, declared to lower-case, which it does not; padded with 0, without a mask."""
    letters = sorted(set("".join(SENTENCES)) | set("▁ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *letters, "at", "cat"]
    return tf.GemmaTokenizer(
        vocab={piece: row for row, piece in enumerate(dict.fromkeys(pieces))}, merges=[("a", "t"), ("c", "at")],
        add_bos_token=False, add_eos_token=True, padding_side="right", do_lower_case=True,
        model_input_names=["input_ids"],
    )  # fmt: skip


def tipsv2_tokenizer() -> Any:
    """TIPSv2's: no token at start or end, so that an empty text has none at all."""
    letters = sorted(set("".join(SENTENCES).lower()) | {"▁"})
    vocabulary = {piece: row for row, piece in enumerate(["<pad>", "<unk>", *letters, "at", "cat"])}
    return tf.Tipsv2Tokenizer(vocab=vocabulary, merges=[("a", "t"), ("c", "at")], model_max_length=CONTEXT)


def _clip_like(name: str, tokenizer: Any, **text: Any) -> Any:
    model, config = getattr(tf, f"{name}Model"), getattr(tf, f"{name}Config")
    end = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    ends = {"pad_token_id": tokenizer.pad_token_id, **(end if tokenizer.eos_token_id is not None else {})}
    text_config = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, **ends, **text}
    return model(config(text_config=text_config, vision_config=VISION, projection_dim=128))


def _siglip(tokenizer: Any) -> Any:
    wide = {"hidden_size": 128}  # also the length of the features
    text = {**TOWER, **wide, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT}
    text |= {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": 1, "bos_token_id": None}
    return tf.SiglipModel(tf.SiglipConfig(text_config=text, vision_config={**VISION, **wide}))


def _align(tokenizer: Any) -> Any:
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 80}
    vision = {
        "image_size": 32, "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 16,
        "in_channels": [32, 8], "out_channels": [8, 16], "kernel_sizes": [3, 3], "strides": [1, 2],
        "expand_ratios": [1, 2], "num_block_repeats": [1, 1],
    }  # fmt: skip
    model = tf.AlignModel(tf.AlignConfig(text_config=text, vision_config=vision, projection_dim=16))
    for parameter in model.vision_model.parameters():
        if parameter.ndim == 4:  # convolutions start so small that all pictures look alike
            parameter.data *= 20
    return model


def _groupvit(tokenizer: Any) -> Any:
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT}
    text |= {"eos_token_id": tokenizer.eos_token_id}
    vision = {**VISION, "depths": [1, 1], "num_hidden_layers": 2, "num_group_tokens": [4, 2],
              "num_output_groups": [4, 2]}  # fmt: skip
    config = tf.GroupViTConfig(text_config=text, vision_config=vision, projection_dim=128,
                               projection_intermediate_dim=48)  # fmt: skip
    return tf.GroupViTModel(config)


def _aimv2(tokenizer: Any) -> Any:
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT}
    text |= {"eos_token_id": tokenizer.eos_token_id}
    return tf.Aimv2Model(tf.Aimv2Config(text_config=text, vision_config=VISION, projection_dim=128))


def _tipsv2(tokenizer: Any) -> Any:
    text = {**TOWER, "hidden_size": 128, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    vision = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    return tf.Tipsv2Model(tf.Tipsv2Config(text_config=text, vision_config=vision))


def _of_two(tokenizer: Any) -> Any:
    text = tf.BertConfig(**TOWER, vocab_size=len(tokenizer), max_position_embeddings=CONTEXT)
    config = tf.VisionTextDualEncoderConfig.from_vision_text_configs(tf.ViTConfig(**VISION), text, projection_dim=128)
    return tf.VisionTextDualEncoderModel(config)


SQUASH = {"height": 32, "width": 32}
# kind -> (tokenizer, model of a tokenizer, image processor, processor)
KINDS: dict[str, tuple[Any, Any, Any, Any]] = {
    "clip": (
        clip_tokenizer,
        lambda tokenizer: _clip_like("CLIP", tokenizer),
        lambda: tf.CLIPImageProcessor(**IMAGES),
        tf.CLIPProcessor,
    ),
    "siglip": (siglip_tokenizer, _siglip, lambda: tf.SiglipImageProcessor(size=SQUASH), tf.SiglipProcessor),
    "siglip_with_mask": (  # not the published one's: a mask goes to the model where a tokenizer makes one
        lambda: siglip_tokenizer(("input_ids", "attention_mask")),
        _siglip,
        lambda: tf.SiglipImageProcessor(size=SQUASH),
        tf.SiglipProcessor,
    ),
    "siglip2": (siglip2_tokenizer, _siglip, lambda: tf.SiglipImageProcessor(size=SQUASH), tf.SiglipProcessor),
    "altclip": (
        xlm_tokenizer,
        lambda tokenizer: _clip_like("AltCLIP", tokenizer, max_position_embeddings=CONTEXT + 2, project_dim=32),
        lambda: tf.CLIPImageProcessor(**IMAGES),
        tf.AltCLIPProcessor,
    ),
    "chinese_clip": (
        bert_tokenizer,
        lambda tokenizer: _clip_like("ChineseCLIP", tokenizer),
        lambda: tf.ChineseCLIPImageProcessor(**IMAGES),
        tf.ChineseCLIPProcessor,
    ),
    "align": (
        bert_tokenizer,
        _align,
        lambda: tf.EfficientNetImageProcessor(size=SQUASH, do_center_crop=False),
        tf.AlignProcessor,
    ),
    "groupvit": (clip_tokenizer, _groupvit, lambda: tf.CLIPImageProcessor(**IMAGES), tf.CLIPProcessor),
    "clipseg": (
        clip_tokenizer,
        lambda tokenizer: _clip_like("CLIPSeg", tokenizer),
        lambda: tf.ViTImageProcessor(size=SQUASH),
        tf.CLIPSegProcessor,
    ),
    "metaclip_2": (
        xlm_tokenizer,
        lambda tokenizer: _clip_like("MetaClip2", tokenizer),
        lambda: tf.CLIPImageProcessor(**IMAGES),
        tf.CLIPProcessor,
    ),
    "clip_of_old": (  # as OpenAI's and LAION's: a wrong end token in the configuration, padding that is a word, too
        lambda: clip_tokenizer(pad_token="!"),
        lambda tokenizer: _clip_like("CLIP", tokenizer, eos_token_id=2),
        lambda: tf.CLIPImageProcessor(**IMAGES),
        tf.CLIPProcessor,
    ),
    "aimv2": (clip_tokenizer, _aimv2, lambda: tf.CLIPImageProcessor(**IMAGES), tf.CLIPProcessor),
    "owlvit": (
        lambda: clip_tokenizer(pad_token="!"),
        lambda tokenizer: _clip_like("OwlViT", tokenizer),
        lambda: tf.OwlViTImageProcessor(size=SQUASH),
        tf.OwlViTProcessor,
    ),
    "owlv2": (
        lambda: clip_tokenizer(pad_token="!"),
        lambda tokenizer: _clip_like("Owlv2", tokenizer),
        lambda: tf.Owlv2ImageProcessor(size=SQUASH),
        tf.Owlv2Processor,
    ),
    "tipsv2": (tipsv2_tokenizer, _tipsv2, lambda: tf.Tipsv2ImageProcessor(size=SQUASH), tf.Tipsv2Processor),
    "two_towers_without_mask": (  # its padding is seen
        lambda: bert_tokenizer(model_input_names=["input_ids"]),
        _of_two,
        lambda: tf.ViTImageProcessor(size=SQUASH),
        tf.VisionTextDualEncoderProcessor,
    ),
    "two_towers": (
        bert_tokenizer,
        _of_two,
        lambda: tf.ViTImageProcessor(size=SQUASH),
        tf.VisionTextDualEncoderProcessor,
    ),
}


def make(kind: str, folder: Path) -> Path:
    """Save a model of a kind with its processor, in a folder of that name below `folder`."""
    make_tokenizer, make_model, make_images, processor = KINDS[kind]
    torch.manual_seed(sum(map(ord, kind)))
    tokenizer = make_tokenizer()
    place = folder / kind
    jitter(make_model(tokenizer)).save_pretrained(place)
    processor(image_processor=make_images(), tokenizer=tokenizer).save_pretrained(place)
    return place


def jitter(model: Any) -> Any:
    """Move all weights off their starting values, which hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()
