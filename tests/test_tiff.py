"""TIFF in all its kinds, against tifffile, Pillow and the standard; and files that are not what they declare."""

from __future__ import annotations

import contextlib
import logging
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from hounsfield.errors import ImageError, SeveralVolumes
from hounsfield.images import read_image
from hounsfield.images.reference import Reference

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (40, 50), np.uint8)
COLOUR = RANDOM.integers(0, 256, (40, 50, 3), np.uint8)
STACK = RANDOM.integers(0, 2**16, (5, 40, 50)).astype(np.uint16)


def tiff(
    pixels: np.ndarray, photometric: int, bits: int | None = None, content: bytes | None = None, **tags: list[int]
) -> bytes:
    """A little-endian TIFF of one strip, written by hand; further tags by their number, as ``_338=[1]``."""
    rows, columns, samples = (*pixels.shape, 1)[:3]
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes() if content is None else content
    fields = {256: [columns], 257: [rows], 258: [bits or pixels.dtype.itemsize * 8] * samples, 259: [1]}
    fields |= {262: [photometric], 273: [0], 277: [samples], 278: [rows], 279: [len(content)], 284: [1]}
    fields |= {int(name[1:]): values for name, values in tags.items()}
    start = 8 + 2 + 12 * len(fields) + 4
    long_ones = b"".join(struct.pack(f"<{len(v)}H", *v) for _, v in sorted(fields.items()) if len(v) > 2)
    entries, used = b"", 0
    for tag, values in sorted(fields.items()):
        if tag in {273, 279}:
            entries += struct.pack("<HHII", tag, 4, 1, start + len(long_ones) if tag == 273 else values[0])
        elif len(values) <= 2:
            entries += struct.pack("<HHI", tag, 3, len(values)) + struct.pack(f"<{len(values)}H", *values).ljust(
                4, b"\0"
            )
        else:
            entries += struct.pack("<HHII", tag, 3, len(values), start + used)
            used += 2 * len(values)
    return struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + entries + bytes(4) + long_ones + content


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("tags", [{}, {262: 0}, {262: 1}, {266: 2}, {278: 7}])
def test_facsimile_is_read_as_by_libtiff(compression, tags, tmp_path) -> None:
    """Whichever of black and white is zero, in either order of bits, in one strip or several."""
    written = RANDOM.random((41, 1733)) > 0.7
    Pillow.fromarray(written).save(tmp_path / "a.tif", compression=compression, tiffinfo=tags)
    expected = np.asarray(Pillow.open(tmp_path / "a.tif"))
    pixels = read_image(tmp_path / "a.tif").pixels
    assert expected.any()
    np.testing.assert_array_equal(pixels[..., 0], expected * np.uint8(255))


def test_facsimile_of_more_rows_than_bits_is_refused(tmp_path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(np.zeros((400, 8), np.uint8), 0, 1, bytes(49), _259=[4]))
    with pytest.raises(ImageError, match="rows need more bytes"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_other_colours_are_refused_with_the_way_to_convert_them(mode, tmp_path) -> None:
    Pillow.fromarray(COLOUR).convert(mode).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="magick IN -colorspace sRGB OUT"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
)
def test_every_type_is_kept(dtype, bigtiff, byteorder, tmp_path) -> None:
    values = RANDOM.normal(0, 50, (20, 30)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=byteorder, bigtiff=bigtiff, metadata=None)
    pixels = read_image(tmp_path / "a.tif").pixels
    assert pixels.dtype == (np.float32 if dtype == "float16" else np.dtype(dtype))
    np.testing.assert_array_equal(pixels[..., 0], values)


@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd", "adobe_deflate"])
@pytest.mark.parametrize("values", [GREY, COLOUR, STACK[0]], ids=["grey", "colour", "deep"])
def test_every_compression_is_undone(values, compression, predictor, tile, tmp_path) -> None:
    if compression == "packbits" and predictor:
        pytest.skip("PackBits has no predictor")
    options = {"tile": tile} if tile else {"rowsperstrip": 7}
    tifffile.imwrite(tmp_path / "a.tif", values, compression=compression, predictor=predictor, metadata=None, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, values.reshape(40, 50, -1))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_lzw_in_strips_is_decoded_as_by_tifffile(dtype, byteorder, tmp_path) -> None:
    values = (COLOUR.astype(np.float64) * 97 - 4000).astype(dtype)
    for photometric, written in (("rgb", values), ("minisblack", values[..., 0])):
        tifffile.imwrite(
            tmp_path / "a.tif", written, compression="lzw", byteorder=byteorder, photometric=photometric, predictor=True
        )
        expected = tifffile.imread(tmp_path / "a.tif").reshape(40, 50, -1)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, expected)
        assert read_image(tmp_path / "a.tif").pixels.dtype == np.dtype(dtype)


def test_damaged_lzw_is_refused(tmp_path, capfd) -> None:
    values = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, compression="lzw", rowsperstrip=64)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[-2000:-1000] = bytes(byte ^ 0x5A for byte in content[-2000:-1000])
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")


def test_lzw_whose_predictor_is_of_another_type_is_never_read_without_it(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", COLOUR[..., 0], compression="lzw", predictor=True)
    content = (tmp_path / "a.tif").read_bytes()
    short, text = (struct.pack("<HH", 317, kind) for kind in (3, 2))
    assert content.count(short) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(short, text))
    with pytest.raises(ImageError, match="PREDICTOR"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_planes_of_colours_are_put_together(planar, tmp_path) -> None:
    values = COLOUR if planar == "contig" else np.moveaxis(COLOUR, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", planarconfig=planar, metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, COLOUR)


def test_jpeg_and_jpeg_2000_inside(tmp_path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    coloured = np.stack([smooth, smooth[::-1], 255 - smooth], -1)
    tifffile.imwrite(
        tmp_path / "a.tif",
        coloured,
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 100},
        tile=(32, 32),
    )
    expected = np.asarray(Pillow.open(tmp_path / "a.tif").convert("RGB")).astype(int)
    assert np.abs(read_image(tmp_path / "a.tif").pixels - expected).max() <= 1
    tifffile.imwrite(
        tmp_path / "b.tif",
        coloured,
        photometric="ycbcr",
        compression="jpeg",
        compressionargs={"level": 95},
        subsampling=(2, 2),
    )
    expected = np.asarray(Pillow.open(tmp_path / "b.tif").convert("RGB")).astype(int)
    assert np.abs(read_image(tmp_path / "b.tif").pixels - expected).max() <= 2
    tifffile.imwrite(tmp_path / "c.tif", STACK[0], compression="jpeg2000", tile=(32, 32))
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif").pixels[..., 0], STACK[0])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_packed_bits_and_white_is_zero(bits, photometric, tmp_path) -> None:
    values = RANDOM.integers(0, 2**bits, (9, 13)).astype(np.uint16)
    packed = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(9, 13, 2), axis=2)[..., 16 - bits :]
    content = np.packbits(packed.reshape(9, -1), axis=1).tobytes()
    if bits == 16:
        content = values.astype("<u2").tobytes()
    (tmp_path / "a.tif").write_bytes(tiff(values, photometric, bits, content))
    image = read_image(tmp_path / "a.tif")
    expected = values if photometric == 1 else 2**bits - 1 - values
    if bits < 8:
        expected = expected * (255 // (2**bits - 1))
    np.testing.assert_array_equal(image.pixels[..., 0], expected)
    assert image.metadata.bits == max(8, bits)
    if bits in {1, 8}:
        np.testing.assert_array_equal(image.pixels[..., 0], np.asarray(Pillow.open(tmp_path / "a.tif").convert("L")))


def test_signed_white_is_zero_is_mirrored_and_real_numbers_are_refused(tmp_path) -> None:
    values = np.array([[-32768, -1, 0, 32767]], np.int16)
    (tmp_path / "a.tif").write_bytes(tiff(values, 0, _339=[2]))
    assert read_image(tmp_path / "a.tif").pixels.ravel().tolist() == [32767, 0, -1, -32768]
    (tmp_path / "b.tif").write_bytes(tiff(values.astype(np.float32), 0, _339=[3]))
    with pytest.raises(ImageError, match="BlackIsZero"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize("mode", ["P", "1", "L", "RGB", "RGBA", "LA", "I;16", "F"])
def test_pillow_s_modes(mode, tmp_path) -> None:
    kinds = {"P": COLOUR, "RGB": COLOUR, "RGBA": COLOUR, "I;16": STACK[0], "F": STACK[0].astype(np.float32)}
    source = Pillow.fromarray(kinds.get(mode, GREY))
    source = source if mode in {"I;16", "F"} else source.convert(mode)
    source.save(tmp_path / "a.tif")
    flat = {"P": "RGB", "RGBA": "RGB", "LA": "L", "1": "L"}.get(mode)
    expected = np.asarray(source.convert(flat) if flat else source)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, expected.reshape(40, 50, -1))


def test_transparency_is_dropped_and_its_factor_taken_out(tmp_path) -> None:
    alpha = RANDOM.integers(1, 256, (40, 50, 1), np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(np.concatenate([COLOUR, alpha], -1), 2, _338=[2]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, COLOUR)
    multiplied = np.rint(COLOUR / 255.0 * alpha).astype(np.uint8)
    (tmp_path / "b.tif").write_bytes(tiff(np.concatenate([multiplied, alpha], -1), 2, _338=[1]))
    theirs = np.asarray(Pillow.open(tmp_path / "b.tif").convert("RGBA"))[..., :3].astype(int)
    pixels = read_image(tmp_path / "b.tif").pixels
    assert np.abs(pixels - theirs).max() <= 1
    assert np.abs(pixels.astype(int) - COLOUR)[alpha[..., 0] > 128].max() <= 1
    (tmp_path / "c.tif").write_bytes(tiff(np.concatenate([GREY[..., None], alpha], -1), 1, _338=[2]))
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif").pixels[..., 0], GREY)


@pytest.mark.parametrize("samples", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_unspecified_samples_are_channels(samples, dtype, tmp_path) -> None:
    values = RANDOM.integers(0, 200, (9, 8, samples)).astype(dtype)
    kind = {"_339": [3] * samples} if dtype == "float32" else {}
    (tmp_path / "a.tif").write_bytes(tiff(values, 1, _338=[0] * (samples - 1), **kind))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, values)
    if samples > 3:
        (tmp_path / "b.tif").write_bytes(tiff(values, 2, _338=[0] * (samples - 3), **kind))
        np.testing.assert_array_equal(read_image(tmp_path / "b.tif").pixels, values)


def exif(orientation: int) -> Pillow.Exif:
    facts = Pillow.Exif()
    facts[274] = orientation
    return facts


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rows_and_columns_are_as_the_orientation_wants(orientation, tmp_path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(GREY, 1, _274=[orientation]))
    # Pillow turns a camera's JPEG right, and of a TIFF only the size.
    Pillow.fromarray(GREY).save(tmp_path / "b.png", exif=exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(tmp_path / "b.png")))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels[..., 0], expected)


@pytest.mark.parametrize(
    ("photometric", "samples", "match"), [(5, 4, "SEPARATED"), (6, 3, "YCBCR"), (8, 3, "CIELAB"), (32803, 1, "CFA")]
)
def test_other_colours_are_refused(photometric, samples, match, tmp_path) -> None:
    values = RANDOM.integers(0, 200, (9, 8, samples)).astype(np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(values, photometric, **({"_530": [1, 1]} if photometric == 6 else {})))
    with pytest.raises(ImageError, match=match):
        read_image(tmp_path / "a.tif")


def test_ome_says_what_its_pages_are(tmp_path) -> None:
    values = RANDOM.integers(0, 2**16, (2, 5, 3, 40, 50)).astype(np.uint16)
    facts = {"axes": "TZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 600}
    facts |= {"PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.002, "PhysicalSizeZUnit": "mm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", values, photometric="minisblack", metadata=facts)
    with pytest.raises(SeveralVolumes, match="0: time 0, 5×3×40×50; 1: time 1"):
        read_image(tmp_path / "a.ome.tif")
    for time in range(2):
        image = read_image(Reference(str(tmp_path / "a.ome.tif"), time))
        np.testing.assert_array_equal(image.pixels, np.moveaxis(values[time], 1, -1))
        np.testing.assert_allclose(image.spacing, (0.002, 0.0006, 0.0005))
        assert image.affine is None
    facts = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "b.ome.tif", values[0, 0], metadata=facts, compression="zlib")
    image = read_image(tmp_path / "b.ome.tif")
    np.testing.assert_array_equal(image.pixels, np.moveaxis(values[0, 0], 0, -1))
    assert image.spacing == (0.0005, 0.0005)
    tifffile.imwrite(
        tmp_path / "c.ome.tif", STACK, photometric="minisblack", metadata={"axes": "ZYX", "PhysicalSizeX": 1}
    )
    assert read_image(tmp_path / "c.ome.tif").spacing is None
    tifffile.imwrite(tmp_path / "d.ome.tif", np.stack([COLOUR] * 4), photometric="rgb", metadata={"axes": "ZYXS"})
    np.testing.assert_array_equal(read_image(tmp_path / "d.ome.tif").pixels, np.stack([COLOUR] * 4))


def test_several_images_of_ome_are_chosen_from(tmp_path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(STACK, photometric="minisblack", metadata={"axes": "ZYX", "PhysicalSizeX": 1})
        facts = {
            "axes": "YX",
            "PhysicalSizeX": 2,
            "PhysicalSizeY": 2,
            "PhysicalSizeXUnit": "mm",
            "PhysicalSizeYUnit": "mm",
        }
        writer.write(GREY, photometric="minisblack", metadata=facts)
    with pytest.raises(SeveralVolumes, match="series 0, 5×40×50; 1: series 1, 40×50"):
        read_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif", volume=0).pixels[..., 0], STACK)
    second = read_image(tmp_path / "a.ome.tif", volume=1)
    np.testing.assert_array_equal(second.pixels[..., 0], GREY)
    assert second.spacing == (2, 2)
    with pytest.raises(ImageError, match="number 2"):
        read_image(tmp_path / "a.ome.tif", volume=2)


def test_ome_that_names_pages_of_other_files_is_refused(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, photometric="minisblack", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as whole:
        xml = whole.ome_metadata
    tifffile.imwrite(tmp_path / "b.ome.tif", STACK[:2], photometric="minisblack", description=xml, metadata=None)
    with pytest.raises(ImageError, match="planes"):
        read_image(tmp_path / "b.ome.tif")
    forged = [f'SizeZ="{size}"' for size in (2**31, 2**62, 10**30)]
    for text in [xml.replace('SizeZ="5"', words) for words in forged] + [
        xml.replace('SizeX="50"', f'SizeX="{10**13}"'),
        xml.replace('PlaneCount="5"', f'PlaneCount="{10**10}"'),
        xml.replace("<TiffData", f'<TiffData FirstZ="{10**10}"'),
    ]:
        assert text != xml
        tifffile.imwrite(tmp_path / "c.ome.tif", STACK[:1], photometric="minisblack", description=text, metadata=None)
        with pytest.raises(ImageError, match="planes"):
            read_image(tmp_path / "c.ome.tif")


@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (40, 50)), ("ZYX", (5, 40, 50)), ("CYX", (3, 40, 50)), ("TZCYX", (2, 5, 3, 40, 50))]
)
@pytest.mark.parametrize("unit", ["um", "pixel"])
def test_imagej_says_what_its_pages_are(axes, shape, unit, tmp_path) -> None:
    values = RANDOM.integers(0, 2**16, shape).astype(np.uint16)
    facts = {"axes": axes, "unit": unit, "spacing": 3.0}
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, resolution=(2, 4), metadata=facts)
    if "T" in axes:
        with pytest.raises(SeveralVolumes, match="time 1"):
            read_image(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif", volume=1 if "T" in axes else None)
    expected = values[1] if "T" in axes else values
    expected = np.moveaxis(expected, -3, -1) if "C" in axes else expected[..., None]
    np.testing.assert_array_equal(image.pixels, expected)
    spacing = (0.003, 0.00025, 0.0005) if "Z" in axes else (0.00025, 0.0005)
    assert image.spacing == (pytest.approx(spacing) if unit == "um" else None)


def test_pages_that_nothing_describes_are_chosen_from(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", metadata=None)
    tifffile.imwrite(tmp_path / "b.tif", STACK, photometric="minisblack")
    for name in ("a.tif", "b.tif"):
        with pytest.raises(SeveralVolumes, match="page 4, 40×50"):
            read_image(tmp_path / name)
        for number in range(5):
            image = read_image(Reference.parse(f"{tmp_path / name}[{number}]"))
            np.testing.assert_array_equal(image.pixels[..., 0], STACK[number])
    with tifffile.TiffWriter(tmp_path / "c.tif") as writer:
        writer.write(GREY, metadata=None)
        writer.write(COLOUR, metadata=None)
        writer.write(GREY[::2, ::2], metadata=None, subfiletype=1)
    with pytest.raises(SeveralVolumes, match="2 volumes"):
        read_image(tmp_path / "c.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif", volume=1).pixels, COLOUR)


def test_dots_per_inch_are_no_spacing(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=(300, 300), resolutionunit="INCH", metadata=None)
    tifffile.imwrite(tmp_path / "b.tif", GREY, resolution=(118, 118), resolutionunit="CENTIMETER", metadata=None)
    assert read_image(tmp_path / "a.tif").spacing is None
    assert read_image(tmp_path / "b.tif").spacing is None


@pytest.fixture
def slide(tmp_path):
    """A slide as Aperio's scanners write it: levels, a thumbnail, and a label that names the patient."""
    full = RANDOM.integers(0, 256, (256, 384, 3), np.uint8)
    levels = [full, full[::4, ::4], full[::16, ::16]]
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        options = {"photometric": "rgb", "metadata": None}
        for number, one in enumerate(levels):
            rows, columns = one.shape[:2]
            text = f"Aperio Image Library v10.0.50\r\n384x256 -> {columns}x{rows} |AppMag = 40|MPP = 0.2500"
            tile = (16, 16)
            writer.write(one, tile=tile, description=text, compression="lzw", **options)
            if number == 0:
                writer.write(full[::8, ::8], description=text, rowsperstrip=16, **options)
        writer.write(full[:20, :30], description="Aperio Image Library\r\nlabel 30x20", subfiletype=1, **options)
        writer.write(full[:30, :30], description="Aperio Image Library\r\nmacro 30x30", subfiletype=9, **options)
    return tmp_path / "a.svs", levels


def test_slides_are_read_by_level(slide, caplog) -> None:
    path, levels = slide
    for number, expected in enumerate(levels):
        image = read_image(path, level=number)
        np.testing.assert_array_equal(image.pixels, expected)
        np.testing.assert_allclose(image.spacing, [0.00025 * 4**number] * 2)
    np.testing.assert_array_equal(read_image(path).pixels, levels[0])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read_image(path, max_pixels=100_000).pixels, levels[1])
    assert "level 1 of 3" in caplog.text
    with pytest.raises(ImageError, match="limit of 100000"):
        read_image(path, max_pixels=100_000, level=0)
    with pytest.raises(ImageError, match="limit of 100"):
        read_image(path, max_pixels=100)
    with pytest.raises(ImageError, match="3 level"):
        read_image(path, level=3)


def test_levels_of_ome_and_of_formats_without_any(tmp_path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        facts = {
            "axes": "YXS",
            "PhysicalSizeX": 1,
            "PhysicalSizeY": 1,
            "PhysicalSizeXUnit": "mm",
            "PhysicalSizeYUnit": "mm",
        }
        writer.write(COLOUR, subifds=1, metadata=facts, tile=(16, 16))
        writer.write(COLOUR[::2, ::2], subfiletype=1, tile=(16, 16))
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif").pixels, COLOUR)
    half = read_image(tmp_path / "a.ome.tif", level=1)
    np.testing.assert_array_equal(half.pixels, COLOUR[::2, ::2])
    assert half.spacing == (2, 2)
    Pillow.fromarray(GREY).save(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", GREY)
    assert read_image(tmp_path / "b.png", level=0).shape == (40, 50)
    for name in ("b.png", "c.npy"):
        with pytest.raises(ImageError, match="level 1 was asked for"):
            read_image(tmp_path / name, level=1)


def test_missing_parts_and_small_files_of_large_pictures_are_refused(tmp_path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(np.zeros((30_000, 1), np.uint8), 1, content=zlib.compress(bytes(50)), _259=[8]))
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)
    (tmp_path / "b.tif").write_bytes(tiff(np.zeros((40, 50), np.uint8), 1, content=bytes(1999)))
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "b.tif")
    with pytest.raises(ImageError, match="limit of 1000"):
        read_image(path, max_pixels=1000)


@pytest.mark.parametrize("codec", ["zlib", "lzw", "zstd", "jpeg", "jpeg2000"])
def test_a_part_that_is_more_than_its_place_is_refused(codec, tmp_path) -> None:
    large = np.zeros((3000, 3000), np.uint8)
    part = {
        "zlib": lambda: imagecodecs.zlib_encode(large),
        "lzw": lambda: imagecodecs.lzw_encode(large),
        "zstd": lambda: imagecodecs.zstd_encode(large),
        "jpeg": lambda: imagecodecs.jpeg_encode(large),
        "jpeg2000": lambda: imagecodecs.jpeg2k_encode(large, codecformat="j2k"),
    }[codec]()
    number = {"zlib": 8, "lzw": 5, "zstd": 50000, "jpeg": 7, "jpeg2000": 34712}[codec]
    (tmp_path / "a.tif").write_bytes(tiff(np.zeros((16, 16), np.uint8), 1, content=part, _259=[number]))
    try:
        pixels = read_image(tmp_path / "a.tif").pixels
    except ImageError:
        return
    assert codec == "lzw", "its first bytes fill the place, and no more was inflated"
    assert pixels.shape == (16, 16, 1)


def test_mutated_files_are_read_or_refused(tmp_path, capfd) -> None:
    random = np.random.default_rng(5)
    seeds = []
    for number, options in enumerate(
        [
            {"compression": "zlib", "predictor": True},
            {"compression": "lzw", "tile": (16, 16)},
            {"compression": "packbits"},
            {"compression": "jpeg"},
            {"imagej": True},
            {"ome": True},
        ]
    ):
        values = np.stack([GREY] * 3) if number > 3 else GREY
        tifffile.imwrite(tmp_path / "seed.tif", values, photometric="minisblack", **options)
        seeds.append((tmp_path / "seed.tif").read_bytes())
    for index in range(600):
        content = bytearray(seeds[index % len(seeds)])
        for position in random.integers(0, min(len(content), 1200), random.integers(1, 5)):
            content[position] = random.integers(256)
        (tmp_path / "a.tif").write_bytes(content)
        with contextlib.suppress(ImageError):
            assert read_image(tmp_path / "a.tif", max_pixels=2**24).pixels.size <= 2**24
    assert not capfd.readouterr().err
