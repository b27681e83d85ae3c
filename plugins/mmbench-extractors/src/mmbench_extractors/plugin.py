"""Entry module: declares the extractors. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from mmbench import Component, hookimpl


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """Pretrained encoders, whose option `model` says which network they hold, and features that need none."""
    yield Component(
        kind="extractor",
        name="hf-text",
        target="mmbench_extractors.text:HFText",
        config="mmbench_extractors.config:HFTextConfig",
        summary="a Hugging Face text encoder (BERT, RoBERTa, DeBERTa and others): token ids to hidden states",
        paper="Devlin et al., BERT (2019); Liu et al., RoBERTa (2019); He et al., DeBERTa (2021); Cui et al., Chinese BERT-wwm (2021)",
        needs=frozenset({"tokens"}),
        modalities=("text",),
    )
    yield Component(
        kind="extractor",
        name="hf-audio",
        target="mmbench_extractors.audio:HFAudio",
        config="mmbench_extractors.config:HFAudioConfig",
        summary="a Hugging Face speech encoder (Data2Vec-audio, HuBERT, wav2vec 2.0, WavLM): 16 kHz waveform to frames",
        paper="Baevski et al., wav2vec 2.0 (2020); Hsu et al., HuBERT (2021); Baevski et al., data2vec (2022); Chen et al., WavLM (2022)",
        needs=frozenset({"waveform"}),
        modalities=("audio",),
    )
    yield Component(
        kind="extractor",
        name="hf-text-tokens",
        target="mmbench_extractors.tokens:HFTextTokens",
        config="mmbench_extractors.options_text:HFTokensConfig",
        summary="token ids of a Hugging Face tokenizer, for an encoder that a later run puts inside its training loop",
        needs=frozenset({"tokens"}),
        provides=frozenset({"tokens"}),
        modalities=("text",),
    )
    yield Component(
        kind="extractor",
        name="glove",
        target="mmbench_extractors.glove:Glove",
        config="mmbench_extractors.options_text:GloveConfig",
        summary="a word vector for each word of a transcript, from a file in the format of GloVe",
        paper="Pennington et al., GloVe (2014)",
        needs=frozenset({"features"}),
        modalities=("text",),
    )
    yield Component(
        kind="extractor",
        name="torchaudio-mfcc",
        target="mmbench_extractors.mfcc:TorchaudioMfcc",
        config="mmbench_extractors.options_audio:MfccConfig",
        summary="MFCC and their differences, mel bands, pitch and energy of a 16 kHz waveform",
        paper="Davis and Mermelstein (1980)",
        needs=frozenset({"waveform"}),
        modalities=("audio",),
        extras=("torchaudio",),
        install="mmbench-extractors[audio]",
    )
    yield Component(
        kind="extractor",
        name="opensmile",
        target="mmbench_extractors.smile:Opensmile",
        config="mmbench_extractors.options_audio:OpensmileConfig",
        summary="openSMILE's eGeMAPS, GeMAPS, ComParE or emobase: each 10 ms, or one frame of statistics for a clip",
        paper="Eyben et al., openSMILE (2010); Eyben et al., GeMAPS (2016); Schuller et al., ComParE (2016)",
        needs=frozenset({"features"}),
        modalities=("audio",),
        extras=("opensmile",),
        install="mmbench-extractors[opensmile]",
    )
    yield Component(
        kind="extractor",
        name="hf-vision",
        target="mmbench_extractors.vision:HFVision",
        config="mmbench_extractors.options_vision:HFVisionConfig",
        summary="a Hugging Face image encoder (ViT, DINOv2, the image side of CLIP) on the images of a video, or on the faces in them",
        paper="Dosovitskiy et al., ViT (2021); Radford et al., CLIP (2021); Oquab et al., DINOv2 (2024)",
        needs=frozenset({"frames"}),
        modalities=("vision",),
        extras=("av", "PIL"),
        install="mmbench-extractors[images]",
    )
    yield Component(
        kind="extractor",
        name="opencv-face",
        target="mmbench_extractors.faces:OpenCVFace",
        config="mmbench_extractors.options_vision:OpenCVFaceConfig",
        summary="the largest face of each image: where it is, and its histogram of oriented gradients",
        paper="Viola & Jones (2001); Dalal & Triggs, HOG (2005)",
        needs=frozenset({"features"}),
        modalities=("vision",),
        extras=("av", "cv2"),
        install="mmbench-extractors[faces]",
    )
    yield Component(
        kind="extractor",
        name="mediapipe",
        target="mmbench_extractors.landmarks:MediaPipeFace",
        config="mmbench_extractors.options_vision:MediaPipeConfig",
        summary="MediaPipe's face landmarker: blendshapes, landmarks and pose; needs the file face_landmarker.task, which is downloaded once",
        paper="Lugaresi et al., MediaPipe (2019)",
        needs=frozenset({"features"}),
        modalities=("vision",),
        extras=("av", "mediapipe"),
        install="mmbench-extractors[mediapipe]",
    )
    yield Component(
        kind="extractor",
        name="openface-csv",
        target="mmbench_extractors.openface:OpenFaceCSV",
        config="mmbench_extractors.options_vision:OpenFaceCSVConfig",
        summary="reads what OpenFace 2 wrote: gaze, pose, landmarks, shape parameters and action units of each image",
        paper="Baltrusaitis et al., OpenFace 2.0 (2018)",
        needs=frozenset({"features"}),
        modalities=("vision",),
    )
    yield Component(
        kind="extractor",
        name="covarep-mat",
        target="mmbench_extractors.covarep:COVAREPMat",
        config="mmbench_extractors.options_vision:COVAREPMatConfig",
        summary="reads what COVAREP wrote: 74 values of voice and spectrum each 10 ms",
        paper="Degottex et al., COVAREP (2014)",
        needs=frozenset({"features"}),
        modalities=("audio",),
    )
    yield Component(
        kind="aligner",
        name="ctc",
        target="mmbench_extractors.ctc:CTCAligner",
        config="mmbench_extractors.options_aligner:CTCConfig",
        summary="the times of words by forced alignment with a Hugging Face CTC model",
        paper="Graves et al., Connectionist Temporal Classification (2006)",
        extras=("torchaudio",),
        install="mmbench-extractors[audio]",
    )
