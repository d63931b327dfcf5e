"""What the images of a simulated survey are like: optics, detector, sky, and how often it looks.

The constants are those of the publications named with each survey, where these give them; the rest (spread of
sky and transparency, distortion, densities of stars and galaxies, rates of what varies) is of the usual size
but approximate.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from skytrawl.errors import ParameterError
from skytrawl.kernels.render.detector import Detector

NJY = 31.4  # AB magnitude of 1 nJy, to 0.0006 mag


@dataclass(frozen=True)
class ImageBand:
    """A band of a simulated imaging survey.

    Attributes
    ----------
    name : str
    filter : str
        What the header calls it.
    wavelength : float
        nm.
    zero_point : float
        AB magnitude of one electron in the default exposure time, clear sky.
    sky : float
        Dark sky, AB magnitude of an arcsec^2.
    depth : float
        AB magnitude of about 5 sigma: what is drawn goes 1 magnitude deeper.
    """

    name: str
    filter: str
    wavelength: float
    zero_point: float
    sky: float
    depth: float


@dataclass(frozen=True)
class ImageModel:
    """An imaging survey to be simulated.

    Attributes
    ----------
    kind : str
    survey : str
    bands : mapping of str to ImageBand
    pixel_scale : float
        arcsec.
    gain : float
        Electrons per ADU.
    read_noise : float
        Electrons.
    full_well : float
        Electrons.
    pixel, thickness : float
        Of the silicon, micrometres.
    exposure_time : float
        Seconds.
    seeing : tuple of float
        Median FWHM [arcsec], spread of its logarithm, least and largest FWHM [arcsec].
    beta : tuple of float
        Range of the slope of the Moffat wings.
    moon : float
        By how much the sky is brighter at most, mag.
    cosmic_rays : float
        Tracks per cm^2 and minute.
    rotation : float
        Largest turn of the camera from one exposure to the next, degrees either way.
    cadence : float
        Mean time between exposures of a field, days.
    start : float
        First day, MJD.
    field : tuple of float
        Centre that is used unless one is given: right ascension, declination, degrees.
    stars, galaxies : tuple of float
        Number per square degree down to the depth, slope of log10 of the counts per magnitude, brightest
        magnitude.
    site : tuple of float
        Longitude (east) and latitude, degrees, height, m.
    projection : {"TPV", "SIP"}
        How the header describes distortion.
    distortion : mapping of str to float
        Its cards.
    calibrated : bool
        Images in nJy without sky, instead of ADU with sky.
    """

    kind: str
    survey: str
    bands: Mapping[str, ImageBand]
    pixel_scale: float
    gain: float
    read_noise: float
    full_well: float
    pixel: float
    thickness: float
    exposure_time: float
    seeing: tuple[float, float, float, float]
    beta: tuple[float, float]
    moon: float
    cosmic_rays: float
    rotation: float
    cadence: float
    start: float
    field: tuple[float, float]
    stars: tuple[float, float, float]
    galaxies: tuple[float, float, float]
    site: tuple[float, float, float]
    projection: str
    distortion: Mapping[str, float]
    calibrated: bool = False

    def detector(self, unit: float) -> Detector:
        """The detector where one image unit is so many electrons."""
        return Detector(unit, self.read_noise, self.full_well / unit, self.thickness / self.pixel, self.pixel)

    def tracks(self, size: int, exposure_time: float) -> float:
        """Mean number of cosmic-ray tracks in an exposure of size x size pixels."""
        return self.cosmic_rays * (size * self.pixel * 1e-4) ** 2 * exposure_time / 60.0


def _bands(*rows: tuple[str, str, float, float, float, float]) -> dict[str, ImageBand]:
    return {row[0]: ImageBand(*row) for row in rows}


ZTF = ImageModel(
    # Bellm et al. 2019, PASP 131, 018002: 1.01 arcsec, 15 um, 30 s, gain 5.8 (6.2 in headers), read noise
    # 10.3 e, full well 350,000 e, image quality 2.0 arcsec in r, depths; Dekany et al. 2020, PASP 132,
    # 038001: e2v CCD231 of standard silicon (about 40 um). Zero points: 26.3, 26.2, 25.6 for one ADU in 30 s
    # are typical of MAGZP in headers; sky of Palomar approximate. Saturation in headers about 52,000 ADU.
    kind="ztf-like",
    survey="ztf",
    bands=_bands(
        ("g", "ZTF_g", 475.0, 26.3 + 1.98, 21.8, 20.8),
        ("r", "ZTF_r", 645.0, 26.2 + 1.98, 20.9, 20.6),
        ("i", "ZTF_i", 792.0, 25.6 + 1.98, 19.9, 19.9),
    ),
    pixel_scale=1.01,
    gain=6.2,
    read_noise=10.3,
    full_well=52_000.0 * 6.2,
    pixel=15.0,
    thickness=40.0,
    exposure_time=30.0,
    seeing=(2.2, 0.2, 1.5, 4.5),
    beta=(3.0, 4.0),
    moon=1.5,
    cosmic_rays=2.0,
    rotation=0.05,
    cadence=3.0,
    start=58_250.0,
    field=(217.3, 34.6),
    stars=(5_000.0, 0.20, 12.0),
    galaxies=(3_500.0, 0.42, 15.0),
    site=(-116.8650, 33.3563, 1712.0),
    projection="TPV",
    # Of a few tenths of a pixel at the corner of a quadrant.
    distortion={"PV1_7": 4.0e-4, "PV1_9": 4.0e-4, "PV2_7": 4.0e-4, "PV2_9": 4.0e-4, "PV1_4": 1.0e-5},
)

LSST = ImageModel(
    # Ivezic et al. 2019, ApJ 873, 111: 0.2 arcsec, 10 um, 100 um deep, 30 s, effective seeing 0.83 arcsec in
    # r, dark sky, depth of a visit. Zero points of one electron a second: SMTN-002 of the project (u 26.52,
    # g 28.51, r 28.36, i 28.17, z 27.78, y 26.82), + 3.69 for 30 s. Read noise 8.8 e and full well 100,000 e
    # of the requirements. Visit images are in nJy without sky.
    kind="lsst-like",
    survey="lsst",
    bands=_bands(
        ("u", "u_24", 367.0, 26.52 + 3.69, 22.99, 23.9),
        ("g", "g_6", 483.0, 28.51 + 3.69, 22.26, 25.0),
        ("r", "r_57", 622.0, 28.36 + 3.69, 21.20, 24.7),
        ("i", "i_39", 755.0, 28.17 + 3.69, 20.48, 24.0),
        ("z", "z_20", 869.0, 27.78 + 3.69, 19.60, 23.3),
        ("y", "y_10", 971.0, 26.82 + 3.69, 18.61, 22.1),
    ),
    pixel_scale=0.2,
    gain=1.6,
    read_noise=8.8,
    full_well=100_000.0,
    pixel=10.0,
    thickness=100.0,
    exposure_time=30.0,
    seeing=(0.83, 0.2, 0.55, 1.5),
    beta=(3.0, 4.5),
    moon=1.0,
    cosmic_rays=2.5,
    rotation=180.0,
    cadence=4.0,
    start=60_980.0,
    field=(53.1, -27.9),
    stars=(12_000.0, 0.20, 14.0),
    galaxies=(90_000.0, 0.35, 17.0),
    site=(-70.7494, -30.2446, 2663.0),
    projection="SIP",
    calibrated=True,
    # Pixels at the power given by the name; a few tenths of a pixel at 1,000 pixels.
    distortion={"A_3_0": 2.0e-10, "A_1_2": 2.0e-10, "B_0_3": 2.0e-10, "B_2_1": 2.0e-10, "A_2_0": 3.0e-8},
)

DECAM = ImageModel(
    # Flaugher et al. 2015, AJ 150, 150: 0.263 arcsec, 15 um, 250 um deep, read noise 7 e, full well
    # 180,000 e. Gain of about 4.0 after flat-fielding, read noise of 10 e, saturation of 44,000 ADU, TPV
    # coefficients: headers of the Community Pipeline, detector S4. Zero points of one electron a second
    # 26.61, 26.82, 26.48 in g, r, z: as the Legacy Surveys use (Dey et al. 2019, AJ 157, 168), + 4.88 for
    # 90 s. Seeing of the same survey, about 1.2 arcsec.
    kind="decam-like",
    survey="decam",
    bands=_bands(
        ("g", "g DECam SDSS c0001 4720.0 1520.0", 472.0, 26.61 + 4.88, 22.0, 24.0),
        ("r", "r DECam SDSS c0002 6415.0 1480.0", 641.5, 26.82 + 4.88, 21.0, 23.4),
        ("z", "z DECam SDSS c0004 9260.0 1520.0", 926.0, 26.48 + 4.88, 18.8, 22.5),
    ),
    pixel_scale=0.263,
    gain=4.0,
    read_noise=10.0,
    full_well=44_000.0 * 4.0,
    pixel=15.0,
    thickness=250.0,
    exposure_time=90.0,
    seeing=(1.15, 0.2, 0.75, 2.0),
    beta=(3.0, 4.0),
    moon=1.0,
    cosmic_rays=2.5,
    rotation=0.02,
    cadence=4.0,
    start=58_400.0,
    field=(110.2, 12.4),
    stars=(15_000.0, 0.20, 15.0),
    galaxies=(50_000.0, 0.38, 16.0),
    site=(-70.81489, -30.16606, 2215.0),
    projection="TPV",
    distortion={
        "PV1_0": 2.952e-4, "PV1_1": 1.005717, "PV1_2": -3.191e-4, "PV1_4": -3.528e-5, "PV1_5": 0.0,
        "PV1_6": 1.7287e-4, "PV1_7": -4.08102e-3, "PV1_8": 1.10214e-3, "PV1_9": -3.40568e-3,
        "PV1_10": -3.68737e-4, "PV2_0": -5.799e-5, "PV2_1": 1.005826, "PV2_2": 2.7968e-4,
        "PV2_4": -1.580817e-3, "PV2_5": 3.76744e-4, "PV2_6": -1.62392e-4, "PV2_7": 3.422839e-3,
        "PV2_8": -1.706287e-3, "PV2_9": -2.374877e-3, "PV2_10": 2.94998e-4,
    },
)  # fmt: skip

MODELS = {model.kind: model for model in (ZTF, LSST, DECAM)}
KINDS = tuple(MODELS)


def image_model(kind: str | ImageModel) -> ImageModel:
    """A survey by name; an ImageModel is returned as it is.

    Raises
    ------
    ParameterError
        If there is no such survey.
    """
    if isinstance(kind, ImageModel):
        return kind
    if kind not in MODELS:
        raise ParameterError(f"no simulated image survey {kind!r}: take one of {', '.join(MODELS)}")
    return MODELS[kind]
