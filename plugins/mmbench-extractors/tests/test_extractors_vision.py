"""`hf-vision`: the network's own states of images that Pillow made smaller, from videos without loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmbench.batch import Sequence
from mmbench.errors import ConfigError, DataError
from mmbench_extractors.options_vision import HFVisionConfig
from mmbench_extractors.vision import CHUNK, HFVision

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
FAMILIES = ("vit", "dinov2", "clip")


def build(folder, **options):
    return HFVision(HFVisionConfig(model=folder, **options))


def scenes(count, height=48, width=64):
    """A bright block that moves over a coloured ground."""
    images = np.full((count, height, width, 3), (20, 90, 160), np.uint8)
    for i, image in enumerate(images):
        image[8:24, 4 * i : 4 * i + 12] = (250, 200, 40)
    return list(images)


def pixels(image, family):
    """What preprocessor_config.json says, by hand: (3, 32, 32)."""
    picture = Image.fromarray(image)
    if family == "clip":  # the shorter side to 32, then the middle
        height, width = image.shape[:2]
        picture = picture.resize((int(32 * width / height), 32), Image.Resampling.BICUBIC)
        left = (picture.width - 32) // 2
        picture = picture.crop((left, 0, left + 32, 32))
        mean, spread = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    else:
        picture = picture.resize((32, 32), Image.Resampling.BILINEAR)
        mean, spread = np.full(3, 0.5), np.full(3, 0.5)
    return torch.from_numpy((np.asarray(picture) / 255 - mean) / spread).float().permute(2, 0, 1)


def states(folder, family, images):
    """(N, tokens, width) after the last norm, by the whole model."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    if family in ("clip", "siglip"):
        model = model.vision_model
    with torch.no_grad():
        found = model(pixel_values=images).last_hidden_state
        return model.post_layernorm(found) if family == "clip" else found


@pytest.mark.parametrize("output", ["cls", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_the_network_run_by_hand(vision_folder, write_video, tmp_path, family, output):
    folder, images = vision_folder(family), scenes(10)
    path = write_video(tmp_path / "clip.mkv", images, fps=5)
    extractor = build(folder, output=output, fps=2.5)
    raw = extractor.prepare(path)
    expected = torch.stack([pixels(images[i], family) for i in (0, 2, 4, 6, 8)])
    assert raw.dtype == torch.float32
    torch.testing.assert_close(raw, expected, atol=1e-5, rtol=1e-5)
    found = extractor(Sequence(raw[None], torch.ones(1, 5, dtype=torch.bool)))
    tokens = states(folder, family, expected)
    assert tokens.shape[1] == 1 + 16
    wanted = tokens[:, 0] if output == "cls" else tokens[:, 1:].mean(1)
    torch.testing.assert_close(found.values[0], wanted, atol=1e-5, rtol=1e-4)
    assert found.mask.all()
    assert (extractor.width, extractor.frame_rate) == (16, 2.5)


def test_an_encoder_without_a_first_token_gives_the_mean_alone(vision_folder):
    folder = vision_folder("siglip")
    extractor = build(folder, output="mean")
    images = torch.randn(1, 3, 3, 32, 32)
    expected = states(folder, "siglip", images[0])
    assert expected.shape[1] == 16
    found = extractor(Sequence(images, torch.ones(1, 3, dtype=torch.bool))).values[0]
    torch.testing.assert_close(found, expected.mean(1), atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match="first token of which output: cls"):
        build(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_depends_on_no_other_and_the_encoder_sees_few_at_once(vision_folder, family):
    extractor = build(vision_folder(family))
    lengths = torch.tensor([CHUNK + 8, 5, 0])
    mask = torch.arange(CHUNK + 8) < lengths[:, None]
    images = torch.randn(3, CHUNK + 8, 3, 32, 32)
    seen = []
    extractor.encoder.register_forward_hook(lambda module, args, kwargs, result: seen.append(len(kwargs["pixel_values"])), with_kwargs=True)
    together = extractor(Sequence(images.masked_fill(~mask[..., None, None, None], torch.nan), mask))
    assert max(seen) <= CHUNK
    assert sum(seen) == lengths.sum()
    assert not together.values[~mask].any()
    for row, frame in ((0, 0), (0, CHUNK + 7), (1, 4)):
        alone = extractor(Sequence(images[row : row + 1, frame : frame + 1], torch.ones(1, 1, dtype=torch.bool)))
        torch.testing.assert_close(alone.values[0, 0], together.values[row, frame], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoder_is_frozen(vision_folder, family):
    extractor = build(vision_folder(family)).train()
    assert not any(module.training for module in extractor.encoder.modules())
    found = extractor(Sequence(torch.randn(1, 2, 3, 32, 32), torch.ones(1, 2, dtype=torch.bool)))
    assert not found.values.requires_grad


def test_the_digest_names_what_changes_features(vision_folder):
    folder = vision_folder("vit")
    first = build(folder).digest()
    assert build(folder).digest() == first
    assert build(folder, margin=0.5, no_face="zeros").digest() == first  # of faces that are not cut out
    others = [build(folder, output="mean"), build(folder, fps=3.0), build(vision_folder("clip"))]
    with torch.no_grad():
        others.append(build(folder))
        others[-1].encoder.layernorm.bias.add_(1)
    others.append(build(folder))
    others[-1].processor.image_mean = (0.4, 0.5, 0.5)
    assert len({first, *(other.digest() for other in others)}) == 1 + len(others)


def test_faces_are_cut_out(vision_folder, draw_face, write_video, tmp_path):
    folder = vision_folder("vit")
    face, empty = draw_face(240, 150, 130, 40), np.full((240, 240, 3), 77, np.uint8)
    path = write_video(tmp_path / "clip.mkv", [face, empty], fps=2)
    whole = build(folder).prepare(path)
    extractor = build(folder, face_crop="opencv", margin=0.2)
    x, y, side = extractor.finder.find(face)
    out = round(1.4 * side)
    left, top = x + (side - out) // 2, y + (side - out) // 2
    cut = extractor.prepare(path)
    torch.testing.assert_close(cut[0], pixels(face[top : top + out, left : left + out], "vit"), atol=1e-5, rtol=1e-5)
    assert torch.equal(cut[1], whole[1])
    assert not torch.allclose(cut[0], whole[0], atol=0.1)
    zeros = build(folder, face_crop="opencv", margin=0.2, no_face="zeros")
    raw = zeros.prepare(path)
    assert torch.equal(raw[0], cut[0])
    assert not raw[1].any()
    found = zeros(Sequence(raw[None], torch.ones(1, 2, dtype=torch.bool)))
    assert found.values[0, 0].any()
    assert not found.values[0, 1].any()
    digests = {build(folder).digest(), extractor.digest(), zeros.digest(), build(folder, face_crop="opencv").digest()}
    assert len(digests) == 4


def test_models_that_do_not_fit_are_named(vision_folder, text_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"hf-vision: model .* reads input_ids, not pixel_values; use hf-text"):
        build(text_folder("bert"))
    from transformers import AutoConfig, AutoModel, ViTImageProcessor

    AutoModel.from_pretrained(vision_folder("vit")).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"AutoImageProcessor can load .*preprocessor_config\.json"):
        build(str(tmp_path))
    ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"images that its preprocessor_config\.json makes, \(3, 48, 48\)"):
        build(str(tmp_path))
    sizes = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "window_size": 2, "image_size": 32, "patch_size": 4}
    AutoModel.from_config(AutoConfig.for_model("swin", **sizes)).save_pretrained(tmp_path / "swin")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "swin")
    for output in ("cls", "mean"):
        with pytest.raises(ConfigError, match="'swin' network gives no states of patches"):
            build(str(tmp_path / "swin"), output=output)


def test_a_preprocessing_without_one_size_is_named(vision_folder, draw_face, write_video, tmp_path):
    """DINOv2 reads images of any size; whole images and faces then differ."""
    from transformers import AutoModel, BitImageProcessor

    AutoModel.from_pretrained(vision_folder("dinov2")).save_pretrained(tmp_path)
    BitImageProcessor(size={"shortest_edge": 32}, do_center_crop=False).save_pretrained(tmp_path)
    wide = np.concatenate([draw_face(), np.full((240, 120, 3), 90, np.uint8)], 1)
    path = write_video(tmp_path / "clip.mkv", [wide, np.full_like(wide, 77)], fps=2)
    extractor = build(str(tmp_path), output="mean")
    raw = extractor.prepare(path)
    assert raw.shape == (2, 3, 32, 48)
    found = extractor(Sequence(raw[None], torch.ones(1, 2, dtype=torch.bool))).values[0]
    torch.testing.assert_close(found, states(str(tmp_path), "dinov2", raw)[:, 1:].mean(1), atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match="set no_face: zeros"):
        build(str(tmp_path), face_crop="opencv").prepare(path)
    assert build(str(tmp_path), face_crop="opencv", no_face="zeros").prepare(path).shape == (2, 3, 32, 32)


def test_files_without_pictures_are_named(vision_folder, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    extractor = build(vision_folder("vit"))
    with pytest.raises(DataError, match=r"gone\.mp4"):
        extractor.prepare(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"text\.mp4"):
        extractor.prepare(tmp_path / "text.mp4")
