"""A folder of one's own pictures, and patches of pictures of unequal sizes."""

import numpy as np
import pytest
import torch
from PIL import Image

from lectool import data


def save(folder, name, array, **options):
    Image.fromarray(np.asarray(array)).save(folder / name, **options)


def test_gray_color_sixteen_bits_and_real_numbers_come_out_alike(tmp_path):
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    save(tmp_path, "a.png", gray)
    save(tmp_path, "b.png", np.stack([gray, gray // 2, 0 * gray], 2))
    save(tmp_path, "c.png", gray.astype(np.uint16) * 257)
    save(tmp_path, "d.tif", gray.astype(np.int32) * 257)
    save(tmp_path, "e.tif", gray.astype(np.float32) / 255)
    Image.fromarray(gray).convert("P").save(tmp_path / "f.png")
    Image.fromarray(gray).convert("RGBA").save(tmp_path / "g.png")
    right = torch.as_tensor(gray / 255).float()
    for i, picture in enumerate(data.pictures(tmp_path)):
        assert picture.dtype == torch.float32 and picture.shape == (3, 4)
        torch.testing.assert_close(picture, (right + right / 2) / 3 if i == 1 else right)


def test_large_pictures_are_reduced_and_others_left_alone(tmp_path):
    rows = np.repeat(np.arange(40, dtype=np.uint8), 20).reshape(40, 20)
    save(tmp_path, "tall.png", rows)
    save(tmp_path, "small.png", rows[:5])
    small, tall = data.pictures(tmp_path, longest=20)
    assert small.shape == (5, 20) and tall.shape == (20, 10)
    torch.testing.assert_close(tall[:, 0] * 255, torch.arange(20) * 2 + 0.5)
    assert data.pictures(tmp_path, longest=None)[1].shape == (40, 20)


def test_a_camera_on_its_side_makes_an_upright_picture(tmp_path):
    turned = Image.new("L", (8, 6))
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "a.jpg", exif=exif)
    assert data.pictures(tmp_path)[0].shape == (8, 6)


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    save(tmp_path, "a.png", np.zeros((3, 3), np.uint8))
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_bytes(b"\0")
    (tmp_path / "inner").mkdir()
    assert len(data.pictures(tmp_path)) == 1


def test_what_is_no_picture_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        data.pictures(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no file"):
        data.pictures(tmp_path)
    with pytest.raises(ValueError, match=r"longest is 0"):
        data.pictures(tmp_path, longest=0)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"notes\.txt: no picture that can be read"):
        data.pictures(tmp_path)
    (tmp_path / "notes.txt").unlink()
    save(tmp_path, "whole.png", np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8))
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.png: no picture that can be read"):
        data.pictures(tmp_path)
    (tmp_path / "cut.png").unlink()
    save(tmp_path, "loud.tif", np.full((3, 3), 7.0, np.float32))
    with pytest.raises(ValueError, match=r"loud\.tif: its gray values have no known range"):
        data.pictures(tmp_path)


def test_patches_of_pictures_of_unequal_sizes():
    first = torch.arange(20.0).reshape(5, 4)
    second = 100 + torch.arange(18.0).reshape(3, 6)
    x = data.patches(400, size=3, images=[first, second])
    assert x.shape == (400, 9) and x.dtype == torch.float32
    starts = x[:, 0]
    assert set(starts[starts < 50].tolist()) == {0, 1, 4, 5, 8, 9}
    assert set(starts[starts > 50].tolist()) == {100, 101, 102, 103}
    of_second = starts > 50
    assert 150 < of_second.sum() < 250  # each as likely as the other
    assert 50 < of_second[:200].sum() < 150  # and in no order
    inside = x[~of_second] - x[~of_second, :1]
    assert (inside == torch.tensor([0, 1, 2, 4, 5, 6, 8, 9, 10.0])).all()
    assert torch.equal(x, data.patches(400, size=3, images=[first, second]))
    assert not torch.equal(x, data.patches(400, size=3, images=[first, second], seed=1))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "empty list"),
        ([torch.ones(5, 5), torch.ones(2, 5)], r"size is 3; expected a number in \[1, 2\]"),
        ([torch.ones(5, 5, 3)], r"images\[0\] has shape \(5, 5, 3\)"),
        ([torch.full((5, 5), torch.nan)], r"images\[0\] holds 25 values"),
    ],
)
def test_patches_of_no_pictures(images, words):
    with pytest.raises(ValueError, match=words):
        data.patches(3, size=3, images=images)
