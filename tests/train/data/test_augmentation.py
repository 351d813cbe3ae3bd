"""Augmentation against NumPy and Pillow, and the laws of what is drawn."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from train.data import augmentation, randaugment

KEY = jax.random.key(3)
N = 256


@functools.cache
def pictures() -> np.ndarray:
    """Levels of smooth and of noisy images, and one of a single colour, uint8[n, 20, 18, 3]."""
    generator = np.random.default_rng(0)
    noisy = generator.integers(30, 220, (4, 20, 18, 3))
    smooth = 6 * np.arange(20).reshape(1, 20, 1, 1) + 4 * np.arange(18).reshape(1, 1, 18, 1)
    smooth = smooth + np.array([0, 20, 50]).reshape(1, 1, 1, 3)
    plain = np.full((1, 20, 18, 3), 77)
    return np.concatenate([noisy, smooth, plain]).astype(np.uint8)


def by_pillow(function):
    """The levels of all pictures by a function of Pillow's images."""
    return np.stack([np.asarray(function(Image.fromarray(p))) for p in pictures()]).astype(int)


def ours(function):
    return np.asarray(jax.jit(jax.vmap(function))(pictures().astype(np.int32)))


def turned(*rows):
    data = [float(v) for row in rows for v in row]
    grey = (randaugment.GREY,) * 3
    return lambda p: p.transform(p.size, Image.Transform.AFFINE, data, fillcolor=grey)


STRENGTH = 0.35
FACTORS = (1 - 0.9 * STRENGTH, 1 + 0.9 * STRENGTH)
SHEAR, SHIFT = 0.3 * STRENGTH, 3
# By the number of the operation: Pillow's, with a positive and with a negative sign.
REFERENCES = {
    0: [lambda p: p] * 2,
    1: [ImageOps.autocontrast] * 2,
    2: [ImageOps.equalize] * 2,
    3: [lambda p, a=a: p.rotate(a, fillcolor=(randaugment.GREY,) * 3) for a in (10.5, -10.5)],
    4: [lambda p: ImageOps.solarize(p, math.ceil(256 * (1 - STRENGTH)))] * 2,
    5: [lambda p, f=f: ImageEnhance.Color(p).enhance(f) for f in FACTORS[::-1]],
    6: [lambda p: ImageOps.posterize(p, 8 - round(4 * STRENGTH))] * 2,
    7: [lambda p, f=f: ImageEnhance.Contrast(p).enhance(f) for f in FACTORS[::-1]],
    8: [lambda p, f=f: ImageEnhance.Brightness(p).enhance(f) for f in FACTORS[::-1]],
    9: [lambda p, f=f: ImageEnhance.Sharpness(p).enhance(f) for f in FACTORS[::-1]],
    10: [turned((1, s, 0), (0, 1, 0)) for s in (SHEAR, -SHEAR)],
    11: [turned((1, 0, 0), (s, 1, 0)) for s in (SHEAR, -SHEAR)],
    12: [turned((1, 0, s), (0, 1, 0)) for s in (SHIFT, -SHIFT)],
    13: [turned((1, 0, 0), (0, 1, s)) for s in (SHIFT, -SHIFT)],
}


@functools.cache
def all_operations() -> np.ndarray:
    """Every operation at both signs: [signs, operations, images, ...]."""

    def both(image):
        return [
            jnp.stack([f(image, jnp.float32(STRENGTH), sign) for f in randaugment.OPERATIONS])
            for sign in (jnp.float32(1), jnp.float32(-1))
        ]

    return np.stack(jax.jit(jax.vmap(both, 0, 1))(pictures().astype(np.int32)))


@pytest.mark.parametrize("number", REFERENCES)
def test_operations_by_pillow(number):
    assert len(REFERENCES) == len(randaugment.OPERATIONS)
    for found, reference in zip(all_operations()[:, number], REFERENCES[number], strict=True):
        expected = by_pillow(reference)
        assert number == 0 or (expected != pictures()).any()
        away = np.abs(found - expected)
        if number in (3, 10, 11):
            # Pillow computes where a pixel comes from in 2^-16 of a pixel: at a border the nearest
            # one may be its neighbour.
            assert (away.max(-1) > 0).mean() < 0.01
        else:
            # A level is cut off where one of the two computes in other digits.
            assert away.max() <= 1 and (away > 0).mean() < 0.01


def test_randaugment_applies_several_of_them():
    images = jnp.tile(pictures()[:1] / 255, (N, 1, 1, 1))
    found = np.round(255 * np.asarray(jax.jit(randaugment.randaugment)(KEY, images))).astype(int)
    assert found.min() >= 0 and found.max() <= 255
    # Of 14 with replacement, each of two signs: many different pictures, and some that stayed.
    kinds = {image.tobytes() for image in found}
    same = sum((image == pictures()[0]).all() for image in found)
    assert len(kinds) > 60 and 1 <= same < N / 20
    one = jax.jit(functools.partial(randaugment.randaugment, number=1, strength=STRENGTH))
    known = {image.tobytes() for image in all_operations()[:, :, 0].reshape(-1, *found.shape[1:])}
    levels = np.round(255 * np.asarray(one(KEY, images))).astype(np.int32)
    assert {image.tobytes() for image in levels} <= known


def test_flips_and_crops_by_numpy():
    images = np.random.default_rng(1).random((N, 6, 6, 2)).astype(np.float32)
    found = np.asarray(jax.jit(augmentation.flipped)(KEY, images))
    flips = (found == images[:, :, ::-1]).all((1, 2, 3))
    assert ((found == images).all((1, 2, 3)) != flips).all()
    assert abs(flips.mean() - 0.5) < 5 * 0.5 / N**0.5
    fill = np.array([-1.0, -2.0], np.float32).reshape(1, 1, 1, 2)
    cropped = jax.jit(augmentation.cropped, static_argnums=2)(KEY, images, 1, fill)
    padded = np.tile(fill, (N, 8, 8, 1))
    padded[:, 1:-1, 1:-1] = images
    places = []
    for image, whole in zip(np.asarray(cropped), padded, strict=True):
        at = [
            (i, j)
            for i in range(3)
            for j in range(3)
            if (image == whole[i : i + 6, j : j + 6]).all()
        ]
        assert len(at) == 1
        places += at
    counts = np.unique(places, axis=0, return_counts=True)[1]
    assert len(counts) == 9 and np.abs(counts - N / 9).max() < 5 * (N * 8 / 81) ** 0.5


def test_cutout_by_numpy():
    images = np.random.default_rng(1).random((N, 7, 9, 2)).astype(np.float32)
    found = np.asarray(jax.jit(augmentation.cutout, static_argnums=2)(KEY, images, 4, 0.5))
    cut = (found == 0.5).all(-1)
    np.testing.assert_array_equal(found[~cut], images[~cut])
    boxes = set()
    for row in range(7):
        for column in range(9):
            box = np.zeros((7, 9), bool)
            box[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = True
            boxes.add(box.tobytes())
    assert {mask.tobytes() for mask in cut} <= boxes
    # Pixels in the middle are inside four boxes by four of all.
    inside = cut[:, 3, 4].mean()
    assert abs(inside - 16 / 63) < 5 * (16 / 63 / N) ** 0.5


def test_mixup_is_the_average_by_its_share():
    images = np.random.default_rng(1).random((N, 3, 3, 1)).astype(np.float32)
    mixed = jax.jit(augmentation.mixup)(KEY, images)
    share = np.asarray(mixed.share, np.float64).reshape(-1, 1, 1, 1)
    expected = share * images + (1 - share) * images[mixed.partners]
    np.testing.assert_allclose(mixed.images, expected, rtol=1e-5, atol=1e-6)  # float32
    assert sorted(np.asarray(mixed.partners)) == list(range(N))
    # Beta(1, 1) is uniform.
    assert abs(share.mean() - 0.5) < 5 * (1 / 12 / N) ** 0.5


def test_cutmix_puts_a_box_of_another_image_in():
    images = np.arange(N * 8 * 8, dtype=np.float32).reshape(N, 8, 8, 1)
    mixed = jax.jit(augmentation.cutmix)(KEY, images)
    partners, found = np.asarray(mixed.partners), np.asarray(mixed.images)
    others = (found == images[partners])[..., 0] & (partners != np.arange(N))[:, None, None]
    own = (found == images)[..., 0]
    assert (own | others).all() and sorted(partners) == list(range(N))
    moved = partners != np.arange(N)
    np.testing.assert_allclose(mixed.share[moved], 1 - others[moved].mean((1, 2)), atol=1e-6)
    for mask in others:
        rows, columns = mask.any(1), mask.any(0)
        np.testing.assert_array_equal(mask, rows[:, None] & columns[None])
        for line in (rows, columns):  # without a hole
            assert np.count_nonzero(np.diff(line.astype(int))) <= 2
