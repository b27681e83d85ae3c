"""Every component keeps the contracts of the core, on small random encoders in local folders."""

import pytest

from mmbench.testing import conformance_tests

FOLDERS = {}


@pytest.fixture(scope="module", autouse=True)
def _folders(text_folder, audio_folder, vision_folder):
    FOLDERS.update(text=text_folder("bert"), audio=audio_folder("wavlm"), vision=vision_folder("clip"))


test_conformance = conformance_tests(
    "mmbench-extractors",
    configs={
        "extractor:hf-text": lambda: {"model": FOLDERS["text"], "max_tokens": 32},
        "extractor:hf-audio": lambda: {"model": FOLDERS["audio"]},
        "extractor:hf-vision": lambda: {"model": FOLDERS["vision"], "face_crop": "opencv"},
    },
)
