from __future__ import annotations

import contextlib
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from hounsfield.errors import ImageError
from hounsfield.images import read_image

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (40, 50), np.uint8)
COLOUR = RANDOM.integers(0, 256, (40, 50, 3), np.uint8)
DEEP = RANDOM.integers(0, 2**16, (40, 50), np.uint16)
DEEP_COLOUR = RANDOM.integers(0, 2**16, (40, 50, 3), np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("values", [GREY, COLOUR], ids=["grey", "colour"])
def test_eight_bits(suffix, values, tmp_path) -> None:
    Pillow.fromarray(values).save(tmp_path / f"a{suffix}")
    pixels = read_image(tmp_path / f"a{suffix}").pixels
    assert pixels.dtype == np.uint8
    if suffix == ".bmp" and values.ndim == 2:
        values = np.repeat(values[..., np.newaxis], pixels.shape[-1], axis=2)
    np.testing.assert_array_equal(pixels, values.reshape(40, 50, -1))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("values", [DEEP, DEEP_COLOUR], ids=["grey", "colour"])
def test_sixteen_bits(suffix, values, tmp_path) -> None:
    cv2.imwrite(str(tmp_path / f"a{suffix}"), values if values.ndim == 2 else values[..., ::-1])
    image = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image.pixels, values.reshape(40, 50, -1))
    assert (image.pixels.dtype, image.metadata.bits) == (np.uint16, 16)


def test_float_tiff(tmp_path) -> None:
    values = RANDOM.normal(size=(6, 7)).astype(np.float32)
    Pillow.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels[..., 0], values)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "1"])
def test_alpha_is_dropped_and_palettes_are_resolved(mode, tmp_path) -> None:
    source = Pillow.fromarray(COLOUR if mode in {"RGBA", "P"} else GREY).convert(mode)
    source.save(tmp_path / "a.png")
    target = "RGB" if mode in {"RGBA", "P"} else "L"
    expected = np.asarray(source.convert(target)).reshape(40, 50, -1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, expected)


def test_jpeg_equals_another_decoder_within_rounding(tmp_path) -> None:
    smooth = cv2.GaussianBlur(COLOUR, (0, 0), 3)
    Pillow.fromarray(smooth).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    expected = np.asarray(Pillow.open(tmp_path / "a.jpg")).astype(int)
    pixels = read_image(tmp_path / "a.jpg").pixels
    assert np.abs(pixels - expected).max() <= 2
    Pillow.fromarray(GREY).save(tmp_path / "grey.jpeg")
    assert read_image(tmp_path / "grey.jpeg").channels == 1


def test_jpeg_is_turned_as_its_exif_says(tmp_path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(cv2.GaussianBlur(GREY, (0, 0), 3)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    stored = np.asarray(Pillow.open(tmp_path / "a.jpg")).astype(int)
    pixels = read_image(tmp_path / "a.jpg").pixels[..., 0]
    assert np.abs(pixels - np.rot90(stored, -1)).max() <= 2


def test_the_content_counts_not_the_suffix(tmp_path) -> None:
    Pillow.fromarray(COLOUR).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").pixels, COLOUR)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_truncated_files_are_refused(suffix, share, tmp_path, capfd) -> None:
    path = tmp_path / f"a{suffix}"
    Pillow.fromarray(GREY).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match="a" + suffix):
        read_image(path)
    assert "WARN" not in capfd.readouterr().err


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path) -> None:
    path = tmp_path / "a.png"
    Pillow.fromarray(GREY).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match="checksum"):
        read_image(path)


def test_pages_are_refused(tmp_path) -> None:
    page = Pillow.fromarray(GREY)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    with pytest.raises(ImageError, match=r"3 volumes.*page 2, 40×50"):
        read_image(tmp_path / "a.tif")


def declared_png(rows: int, columns: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("rows", "columns"), [(2**31 - 1, 2**31 - 1), (60_000, 60_000), (0, 10)])
def test_a_declared_size_is_checked_before_anything_is_allocated(rows, columns, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(declared_png(rows, columns))
    with pytest.raises(ImageError, match="limit"):
        read_image(tmp_path / "a.png")


def test_the_limit_counts_values(tmp_path) -> None:
    Pillow.fromarray(GREY).save(tmp_path / "grey.png")
    Pillow.fromarray(COLOUR).save(tmp_path / "colour.png")
    assert read_image(tmp_path / "grey.png", max_pixels=2000).shape == (40, 50)
    with pytest.raises(ImageError, match="limit"):
        read_image(tmp_path / "colour.png", max_pixels=2000)


@pytest.mark.parametrize("form", ["jp2", "j2k"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_jpeg_2000_keeps_its_range(bits, form, tmp_path) -> None:
    values = (DEEP >> (16 - bits)).astype(np.uint8 if bits == 8 else np.uint16)
    path = tmp_path / f"a.{form}"
    path.write_bytes(imagecodecs.jpeg2k_encode(values, bitspersample=bits, codecformat=form, reversible=True, level=0))
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[..., 0], values)
    assert image.metadata.bits == bits
    signed = (DEEP.astype(int) - 2**15).astype(np.int16)
    path.write_bytes(imagecodecs.jpeg2k_encode(signed, codecformat=form, reversible=True, level=0))
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], signed)
    path.rename(tmp_path / "b.unknown")
    np.testing.assert_array_equal(read_image(tmp_path / "b.unknown").pixels[..., 0], signed)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_colours_and_transparency_of_jpeg_2000(mode, tmp_path) -> None:
    values = RANDOM.integers(0, 256, (40, 50, len(mode)), np.uint8).squeeze()
    Pillow.fromarray(values, mode).save(tmp_path / "a.jp2")
    kept = values if mode in {"L", "RGB"} else values[..., :-1]
    np.testing.assert_array_equal(read_image(tmp_path / "a.jp2").pixels, kept.reshape(40, 50, -1))


def test_jpeg_2000_that_is_damaged_or_declares_too_much_is_refused(tmp_path) -> None:
    Pillow.fromarray(COLOUR).save(tmp_path / "a.jp2")
    whole = (tmp_path / "a.jp2").read_bytes()
    for length in (12, 40, 100, len(whole) // 2, len(whole) - 2):
        (tmp_path / "b.jp2").write_bytes(whole[:length])
        with pytest.raises(ImageError, match=r"b\.jp2"):
            read_image(tmp_path / "b.jp2")
    with pytest.raises(ImageError, match="limit"):
        read_image(tmp_path / "a.jp2", max_pixels=5000)
    # A header of another picture in front, in a part that decoders leave out, is not believed.
    start = whole.index(b"\xff\x4f\xff\x51")
    forged = bytearray(whole[start : start + 60])
    struct.pack_into(">II", forged, 8, 1, 1)
    note = struct.pack(">I4s", 8 + len(forged), b"uuid") + bytes(forged)
    (tmp_path / "c.jp2").write_bytes(whole[:12] + note + whole[12:])
    with pytest.raises(ImageError, match="limit"):
        read_image(tmp_path / "c.jp2", max_pixels=5000)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_webp(mode, tmp_path) -> None:
    source = Pillow.fromarray(COLOUR).convert(mode)
    source.save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp").pixels, np.asarray(source.convert("RGB")))
    source.save(tmp_path / "b.webp", quality=80)
    expected = np.asarray(Pillow.open(tmp_path / "b.webp").convert("RGB")).astype(int)
    assert np.abs(read_image(tmp_path / "b.webp").pixels - expected).max() <= 1
    whole = (tmp_path / "b.webp").read_bytes()
    (tmp_path / "c.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="too early"):
        read_image(tmp_path / "c.webp")
    with pytest.raises(ImageError, match="limit"):
        read_image(tmp_path / "a.webp", max_pixels=5000)


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_animations_are_refused(suffix, tmp_path) -> None:
    page = Pillow.fromarray(GREY)
    page.save(tmp_path / f"a{suffix}", save_all=True, append_images=[Pillow.fromarray(GREY[::-1])])
    with pytest.raises(ImageError, match="animation"):
        read_image(tmp_path / f"a{suffix}")


def test_the_end_of_a_preview_is_not_that_of_the_picture(tmp_path) -> None:
    Pillow.fromarray(GREY[:8, :8]).save(tmp_path / "preview.jpg")
    Pillow.fromarray(GREY).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + (tmp_path / "preview.jpg").read_bytes())
    read_image(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(ImageError, match="end-of-image"):
        read_image(tmp_path / "b.jpg")


def test_a_small_png_of_a_large_picture_is_refused(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(declared_png(16_000, 16_000))
    with pytest.raises(ImageError, match="too early"):
        read_image(tmp_path / "a.png")


def test_mutated_files_are_read_or_refused(tmp_path) -> None:
    random = np.random.default_rng(5)
    path = tmp_path / "a"
    for suffix, values in ((".png", GREY), (".jpg", COLOUR), (".jp2", COLOUR), (".bmp", COLOUR), (".webp", COLOUR)):
        Pillow.fromarray(values).save(tmp_path / f"seed{suffix}")
        seed = (tmp_path / f"seed{suffix}").read_bytes()
        for _ in range(60):
            content = bytearray(seed)
            for position in random.integers(0, min(len(content), 200), random.integers(1, 5)):
                content[position] = random.integers(256)
            path.write_bytes(bytes(content))
            with contextlib.suppress(ImageError):
                assert read_image(path, max_pixels=2**24).pixels.size <= 2**24
