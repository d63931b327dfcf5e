"""Cutouts as samples: the same values as in the store, in torch's loader, in other processes."""

import pickle
import shutil
from functools import partial

import numpy as np
import pytest
from export_stores import COUNTS, SIZE, shared_stores
from numpy.testing import assert_allclose, assert_array_equal

import skytrawl
from skytrawl.catalogs.images.candidates import open_candidates
from skytrawl.catalogs.images.cutouts import Cutouts
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.errors import CorruptShardError, ImageError, ParameterError
from skytrawl.kernels import flags


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shared_stores(tmp_path_factory)[1:]


def half(sample, factor):
    """Something a user may do with a sample."""
    return {**sample, "image": sample["image"] * np.float32(factor)}


def test_samples_are_the_normalised_cutouts(made):
    paths, truth = made
    data = skytrawl.CutoutDataset(paths["candidates"], truth=truth, columns=("snr", "exposure"))
    assert len(data) == sum(COUNTS.values())
    assert data.shape == (4, SIZE, SIZE)
    assert data.classes == ("", "moving", "nova", "supernova")
    catalogue = open_candidates(paths["candidates"])["candidates"]
    store, number = FrameStore.open(paths["candidates"]), 0
    for name, count in COUNTS.items():
        if not count:
            continue
        arrays = store.read(name).arrays
        places = np.zeros(count, np.int64)
        names = ("science", "reference", "difference")
        images, noise = Cutouts(arrays["cutouts"], arrays["cutout_mask"], names, places, places).normalised()
        for row in range(count):
            sample = data[number]
            assert sample["image"].dtype == np.float32
            assert_array_equal(sample["image"][:3], images[row])
            assert_array_equal(sample["image"][3] != 0, (arrays["cutout_mask"][row] & flags.UNUSABLE) != 0)
            assert sample["noise"] == noise[row]
            assert (sample["snr"], sample["exposure"]) == (arrays["snr"][row], name)
            assert catalogue["snr"].values[sample["candidate"]] == arrays["snr"][row]
            if row % 2:
                assert sample["label"] == 0
                assert np.isnan(sample["truth_flux"])
            else:
                assert sample["label"] > 0
                assert sample["truth_flux"] in truth["flux"]
            number += 1
    assert_array_equal(data[-1]["image"], data[len(data) - 1]["image"])
    with pytest.raises(IndexError):
        data[len(data)]


def test_choices(made):
    paths, truth = made
    raw = skytrawl.CutoutDataset(paths["candidates"], planes=("difference",), normalise=None, mask=False)
    scaled = skytrawl.CutoutDataset(
        paths["candidates"], planes=("difference", "science"), normalise="science"
    )
    assert raw.shape == (1, SIZE, SIZE)
    assert scaled.shape == (3, SIZE, SIZE)
    for one, two in zip(raw, scaled, strict=True):
        assert one["noise"] == 1
        assert_allclose(one["image"][0] / two["noise"], two["image"][0], rtol=1e-5, atol=1e-7)
    bright = skytrawl.CutoutDataset(
        paths["candidates"], frames=["c*"], where=lambda table: table["snr"] > 0, columns=("snr",)
    )
    assert 0 < len(bright) < COUNTS["c 3"]
    assert all(sample["snr"] > 0 for sample in bright)
    for words, text in (
        ({"planes": ("flux",)}, "flux"),
        ({"planes": ()}, "no plane"),
        ({"normalise": "noise"}, "noise"),
        ({"columns": ("colour",)}, "colour"),
        ({"where": lambda table: [1, 2]}, "one bool a candidate"),
    ):
        with pytest.raises(ParameterError, match=text):
            skytrawl.CutoutDataset(paths["candidates"], **words)
    given = partial(skytrawl.CutoutDataset, paths["candidates"], truth=truth)
    ordered = given(classes=("supernova", "eclipse", "nova", "moving"))
    usual = given()
    for one, two in zip(ordered, usual, strict=True):
        assert ordered.classes[one["label"]] == usual.classes[two["label"]]
    with pytest.raises(ParameterError, match="classes lack moving"):
        given(classes=("nova", "supernova"))
    none = skytrawl.CutoutDataset(paths["candidates"], frames=["a1"])
    assert len(none) == 0


def test_loader_with_workers_gives_the_same(made):
    torch = pytest.importorskip("torch")
    paths, truth = made
    data = skytrawl.CutoutDataset(
        paths["candidates"], truth=truth, columns=("exposure",), transform=partial(half, factor=0.5)
    )
    data[0]
    copy = pickle.loads(pickle.dumps(data))
    assert len(copy._blocks) == 0
    assert len(pickle.dumps(data)) < 20_000
    whole = np.stack([sample["image"] for sample in data])
    assert_array_equal(np.stack([copy[n]["image"] for n in range(len(copy))]), whole)
    catalogue = data.table["candidate"]
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(
            data, batch_size=5, shuffle=True, num_workers=workers,
            generator=torch.Generator().manual_seed(3),
        )  # fmt: skip
        batches = list(loader)
        assert [len(batch["image"]) for batch in batches] == [5, 5, 2]
        assert batches[0]["image"].dtype == torch.float32
        assert batches[0]["label"].dtype == torch.int64
        got = {
            int(candidate): image.numpy()
            for batch in batches
            for candidate, image in zip(batch["candidate"], batch["image"], strict=True)
        }
        assert_array_equal(np.stack([got[int(candidate)] for candidate in catalogue]), whole)


def test_bad_runs(made, tmp_path):
    paths, _ = made
    with pytest.raises(ParameterError, match="differences"):
        skytrawl.CutoutDataset(paths["differences"])
    copy = shutil.copytree(paths["candidates"], tmp_path / "copy")
    data = skytrawl.CutoutDataset(copy)
    store = FrameStore.open(copy)
    file = store.plane("b,2", "cutouts").file
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorruptShardError, match=r"frame b,2, cutouts"):
        data[0]
    for name, count in COUNTS.items():
        if count:
            frame = store.read(name, [n for n in store.record(name)["arrays"] if not n.startswith("cutout")])
            store.write(frame)
    store.publish()
    with pytest.raises(ImageError, match="--cutout 63"):
        skytrawl.CutoutDataset(copy)
