"""Every component keeps the contracts of the core, on small random encoders in local folders."""

import pytest

from mmbench.testing import conformance_tests

FOLDERS = {}


@pytest.fixture(scope="module", autouse=True)
def _folders(text_folder, audio_folder, vision_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("conformance")
    (folder / "vectors.txt").write_text("it 1 2 3\nwas 4 5 6\nfilm 7 8 9\n")
    FOLDERS.update(text=text_folder("bert"), audio=audio_folder("wavlm"), vision=vision_folder("clip"), vectors=str(folder / "vectors.txt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMBENCH_CACHE", str(folder / "cache"))
        yield


test_conformance = conformance_tests(
    "mmbench-extractors",
    configs={
        "extractor:hf-text": lambda: {"model": FOLDERS["text"], "max_tokens": 32},
        "extractor:hf-text-tokens": lambda: {"model": FOLDERS["text"], "max_tokens": 32},
        "extractor:glove": lambda: {"vectors": FOLDERS["vectors"]},
        "extractor:hf-audio": lambda: {"model": FOLDERS["audio"]},
        "extractor:hf-vision": lambda: {"model": FOLDERS["vision"], "face_crop": "opencv"},
    },
)
