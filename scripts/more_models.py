"""Which models of transformers and timm the channel bench takes, by their configurations.

Small where the family has a size to choose: what counts is the graph.
"""

from __future__ import annotations

from typing import Any

WORDS, TOKENS, SIZE = 500, 24, 64
"""Vocabulary, length of a text, pixels of an image."""

_TEXT = {"vocab_size": WORDS, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
_TEXT |= {"intermediate_size": 256, "max_position_embeddings": 64}
_IMAGE = {**{key: _TEXT[key] for key in _TEXT if key.startswith(("hidden", "num", "inter"))}}
_IMAGE |= {"image_size": SIZE, "patch_size": 16}
_STAGES = {"image_size": SIZE, "embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4]}

TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", _TEXT),
    "distilbert": (
        "DistilBertConfig",
        "DistilBertModel",
        {"vocab_size": WORDS, "dim": 128, "n_layers": 3, "n_heads": 4, "hidden_dim": 256},
    ),
    "roberta": ("RobertaConfig", "RobertaModel", _TEXT),
    "electra": ("ElectraConfig", "ElectraModel", {**_TEXT, "embedding_size": 64}),
    "albert": ("AlbertConfig", "AlbertModel", {**_TEXT, "embedding_size": 64}),
    "mobilebert": (
        "MobileBertConfig",
        "MobileBertModel",
        {**_TEXT, "embedding_size": 64, "intra_bottleneck_size": 64},
    ),
    "deberta_v2": ("DebertaV2Config", "DebertaV2Model", _TEXT),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"vocab_size": WORDS, "n_embd": 128, "n_layer": 3, "n_head": 4, "n_positions": 64},
    ),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXModel", _TEXT),
    "llama": ("LlamaConfig", "LlamaForCausalLM", {**_TEXT, "num_key_value_heads": 2}),
    "qwen2": ("Qwen2Config", "Qwen2Model", {**_TEXT, "num_key_value_heads": 2}),
    "phi3": ("Phi3Config", "Phi3Model", {**_TEXT, "num_key_value_heads": 2, "pad_token_id": 0}),
    "t5_encoder": (
        "T5Config",
        "T5EncoderModel",
        {"vocab_size": WORDS, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 3}
        | {"num_heads": 4},
    ),
    "whisper_encoder": (
        "WhisperConfig",
        "WhisperModel",
        {"vocab_size": WORDS, "d_model": 128, "encoder_layers": 2, "decoder_layers": 2}
        | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_mel_bins": 20}
        | {"encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "max_source_positions": 30}
        | {"pad_token_id": 0, "decoder_start_token_id": 1, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "wav2vec2": (
        "Wav2Vec2Config",
        "Wav2Vec2Model",
        {**_TEXT, "conv_dim": [64] * 4, "conv_stride": [5, 2, 2, 2], "conv_kernel": [10, 3, 3, 3]}
        | {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
        | {"num_feat_extract_layers": 4},
    ),
    "clip_vision": ("CLIPVisionConfig", "CLIPVisionModel", _IMAGE),
    "vit": ("ViTConfig", "ViTModel", _IMAGE),
    "deit": ("DeiTConfig", "DeiTModel", _IMAGE),
    "beit": ("BeitConfig", "BeitModel", _IMAGE),
    "swin": ("SwinConfig", "SwinModel", {**_STAGES, "patch_size": 4, "window_size": 4}),
    "swinv2": ("Swinv2Config", "Swinv2Model", {**_STAGES, "patch_size": 4, "window_size": 4}),
    "segformer": (
        "SegformerConfig",
        "SegformerModel",
        {"hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1]}
        | {"num_attention_heads": [1, 2, 4, 8]},
    ),
}
"""Name -> configuration, model, what differs from the configuration's defaults."""

TIMM = (
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "convnextv2_atto",
    "mixnet_s",
    "mobilevit_xxs",
    "repvgg_a0",
    "resnetv2_50",
    "res2net50_26w_4s",
    "skresnet18",
    "hrnet_w18_small",
    "ghostnet_100",
    "mixer_s32_224",
    "poolformer_s12",
    "efficientvit_b0",
    "cspresnet50",
    "dla34",
)

NAMES = (*TRANSFORMERS, *(f"timm/{name}" for name in TIMM))
