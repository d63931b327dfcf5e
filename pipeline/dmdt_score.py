"""Job dmdt-score: how unusual the magnitude differences of an object are, given their time differences.

Kinds of score (low is anomalous in all of them):

- ``mean``: weighted mean over pairs of the bounded log ratio of P(dm|dt) to its expectation, see
  :mod:`skytrawl.catalogs.reference_model`; NaN without pairs.
- ``tail``: the rank of ``mean`` among reference objects with a similar number of pairs, each of them scored
  without its own counts; uniform in (0, 1] for objects of the same population that were not
  counted.
- ``soraisam2020``: the sum with penalties of Soraisam et al. 2020 (ApJ 892, 112) exactly as its program
  has it, against a reference of that kind; 0 without pairs. An object of which the cuts leave nothing
  (n_used is 0), which the program writes nothing of, is among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs import references, soraisam2020
from skytrawl.catalogs.reference_model import ScoreModel, own_scores, tables, tail_probability
from skytrawl.catalogs.schema import Variable
from skytrawl.dmdt_common import Cuts, key_codes, magnitude_system, needs, photometry_of, usable
from skytrawl.errors import ParameterError, ReferenceMismatchError
from skytrawl.job import Arrays, Job, Prepared
from skytrawl.kernels import dmdt
from skytrawl.params import option

if TYPE_CHECKING:
    import xarray as xr

    from skytrawl.catalogs.archive import Archive, Block

KINDS = ("mean", "tail", "soraisam2020")
DEFAULTS = ScoreModel()


@dataclass(frozen=True, kw_only=True)
class Parameters(Cuts):
    """Parameters of dmdt-score."""

    reference: Path = field(metadata={"help": "reference made by dmdt-reference, or an imported one"})
    kind: str = option("mean", "score", "", KINDS)
    threshold: float = option(float("nan"), "flag objects with a lower score; nan flags none")
    per_class: bool = option(False, "score against the reference of the object's catalogued class")
    allow_mismatch: bool = option(False, "use a reference of another survey, band set or photometry kind")
    min_pairs: int = option(1, "objects with fewer pairs get no score: NaN (mean, tail)")
    neighbours: int = option(100, "reference objects of similar number of pairs that tail ranks among")
    smooth_dt: float = option(DEFAULTS.smooth_dt, "smoothing of the reference along dt", "cells")
    smooth_dm: float = option(DEFAULTS.smooth_dm, "smoothing of the reference along dm", "cells")
    prior_pairs: float = option(DEFAULTS.prior_pairs, "pseudo-pairs of each row of the reference")
    floor: float = option(DEFAULTS.floor, "lowest value of a pair (mean, tail)", "log10")
    dt_power: float = option(DEFAULTS.dt_power, "pairs are weighted by dt to this power (mean, tail)")
    cross_weight: float = option(DEFAULTS.cross_weight, "weight of pairs between bands (mean, tail)")
    min_coverage: float = option(
        DEFAULTS.min_coverage, "fraction of the reference objects that a dt row must hold pairs of"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise ParameterError(f"kind is {self.kind!r}: choose one of {', '.join(KINDS)}")
        if self.neighbours < 1 or self.min_pairs < 1:
            raise ParameterError("neighbours and min_pairs must be 1 at least")
        self.model()

    def model(self) -> ScoreModel:
        """The constants of mean and tail."""
        return ScoreModel(**{name: getattr(self, name) for name in ScoreModel.__dataclass_fields__})


@dataclass(frozen=True, eq=False)
class Scorer:
    """A reference made ready: one for all objects, or one a class.

    `keys` are the keys of the reference that each compiled key is; `weights` is None for plain sums.
    """

    keys: np.ndarray
    values: dmdt.CompiledReference
    weights: dmdt.CompiledReference | None
    sample_score: np.ndarray
    sample_pairs: np.ndarray


def job_needs(parameters: Parameters, archive: Archive) -> tuple[str, ...]:
    """Variables that are read."""
    names = needs(parameters, archive)
    if parameters.per_class:
        if "objects/class" not in archive.variables:
            raise ParameterError(f"{archive.path} has no classes: leave out per_class")
        names += ("objects/class",)
    return names


def prepare(parameters: Parameters, archive: Archive) -> Prepared:
    """Load the reference, refuse one that does not fit, compile it."""
    job_needs(parameters, archive)  # names what the archive lacks before anything is loaded
    reference = references.load(parameters.reference)
    facts = reference.attrs["skytrawl"]
    if (parameters.kind == "soraisam2020") != (facts["kind"] == "soraisam2020"):
        remedy = (
            "choose kind=soraisam2020, or make a reference with dmdt-reference"
            if facts["kind"] == "soraisam2020"
            else "choose kind mean or tail, or import or rebuild a reference of soraisam2020"
        )
        raise ReferenceMismatchError(
            f"{parameters.reference} is of kind {facts['kind']}, the score {parameters.kind!r} "
            f"needs another: {remedy}"
        )
    mismatch = mismatches(facts, archive)
    if mismatch and not parameters.allow_mismatch:
        raise ReferenceMismatchError(
            f"{parameters.reference} does not fit {archive.path}: {'; '.join(mismatch)}. "
            "Use a reference of the same kind, or ask for this one with allow_mismatch"
        )
    # Keys of bands that the archive lacks have no pairs.
    known = [i for i, pair in enumerate(facts["keys"]) if set(pair) <= set(archive.bands)]
    if not known:
        raise ReferenceMismatchError(
            f"no key of {parameters.reference} is made of the bands {', '.join(archive.bands)} of "
            f"{archive.path}"
        )
    pairs = [tuple(facts["keys"][i]) for i in known]
    scorers: dict[str, Scorer] = {}
    names: list[str | None] = [None]
    if parameters.per_class:
        names += [name for name in facts["classes"] if name]
        if len(names) == 1:
            raise ReferenceMismatchError(
                f"{parameters.reference} was counted without classes: make it with by_class, or "
                f"leave out per_class"
            )
    for name in names:
        scorer = _scorer(reference, name, known, pairs, archive, parameters)
        if scorer is not None:
            scorers[name or ""] = scorer
    if "" not in scorers:
        raise ReferenceMismatchError(f"{parameters.reference} has no pairs in the keys of {archive.path}")
    fingerprint = references.fingerprint(reference)
    attrs = {
        "reference": str(parameters.reference),
        "reference_fingerprint": fingerprint,
        "reference_mismatch": mismatch,
        "cuts": parameters.resolved(),
        "rules": facts.get("rules", "soraisam2020"),
    }
    payload = {
        "scorers": scorers,
        "labels": [references.key_label(pair) for pair in pairs],
        "codes": key_codes(pairs, archive.bands),
        "rules": dmdt.SORAISAM2020_RULES
        if facts["kind"] == "soraisam2020"
        else dmdt.PairRules(**facts["rules"]),
        **magnitude_system(archive),
    }
    return Prepared(payload, {"reference": fingerprint}, attrs)


def mismatches(facts: dict[str, Any], archive: Archive) -> list[str]:
    """In what a reference differs from an archive: survey, photometry, units, bands."""
    own = photometry_of(archive)
    found = [
        f"{name} is {facts.get(name, 'unknown')!r} in the reference and {own[name]!r} in the archive"
        for name in ("survey", "photometry", "quantity", "units")
        if facts.get(name, "unknown") != own[name]
    ]
    missing = [band for band in facts["bands"] if band not in archive.bands]
    if missing:
        found.append(f"the archive has no band {', '.join(missing)} (it has {', '.join(archive.bands)})")
    return found


def _scorer(
    reference: xr.Dataset,
    class_name: str | None,
    known: list[int],
    pairs: list[tuple[str, str]],
    archive: Archive,
    parameters: Parameters,
) -> Scorer | None:
    none = np.zeros(0)
    codes = key_codes(pairs, archive.bands)
    if parameters.kind == "soraisam2020":
        parity = soraisam2020.key_tables(reference)
        compiled = dmdt.compile_reference(codes, [parity[i] for i in known])
        return Scorer(np.arange(len(known)), compiled, None, none, none)
    model = parameters.model()
    counts = references.counts_of(reference, class_name)
    # Keys that the archive lacks do not enter the scores of the sample either.
    counts.objects[np.setdiff1d(np.arange(len(counts.objects)), known)] = 0
    keys, values, weights = tables(counts, model)
    if not keys:
        return None
    used = [known.index(key) for key in keys]
    chosen = [codes[i] for i in used]
    sample_score: np.ndarray = none
    sample_pairs: np.ndarray = none
    if parameters.kind == "tail":
        sample_score, sample_pairs = own_scores(counts, *references.sample_of(reference, class_name), model)
        if not np.isfinite(sample_score).any() and class_name is None:
            raise ReferenceMismatchError(
                f"{parameters.reference} holds no sample to calibrate against: make it with sample_size > 0"
            )
    return Scorer(
        np.array(used),
        dmdt.compile_reference(chosen, values),
        dmdt.compile_reference(chosen, weights),
        sample_score,
        sample_pairs,
    )


def gives(parameters: Parameters, prepared: Prepared) -> tuple[Variable, ...]:
    """Variables of the results."""
    low = {
        "mean": "weighted mean over pairs of log10 of P(dm|dt) over its expectation, bounded below",
        "tail": "rank of the mean among reference objects of similar number of pairs, in (0, 1]",
        "soraisam2020": "sum over pairs of log10 of P(dm|dt) over its expectation, with penalties",
    }[parameters.kind]

    def of(
        name: str, dtype: str, long_name: str, comment: str = "", units: str = "", **more: Any
    ) -> Variable:
        dims = ("object", "key") if name in ("part", "key_pairs") else ("object",)
        return Variable(name, dims, dtype, units, long_name, comment=comment, **more)

    width = max(len(label.encode()) for label in prepared.payload.get("labels", ["g"]))
    found = [
        of(
            "score",
            "float64",
            f"dm-dt score ({parameters.kind})",
            f"{low}; low is anomalous",
            direction="low",
        ),
        of("flagged", "bool", "score below the threshold"),
        of("n_pairs", "int64", "pairs that entered the score"),
        of("n_penalised", "int64", "pairs beyond the dm range or at the floor", "of those that entered"),
        of("n_ignored", "int64", "pairs outside the dt range of the reference", "or of a key without weight"),
        of("part", "float64", "part of each key in the score", "the parts add up to the raw score"),
        of("key_pairs", "int64", "pairs of each key", "with those outside the dt range"),
        of("worst_value", "float64", "value of the worst pair", "log10 ratio, before weighting"),
        of("worst_dt", "float64", "time difference of the worst pair", units="d"),
        of("worst_dm", "float64", "magnitude difference of the worst pair", "positive is fading", "mag"),
        of("worst_key", f"S{width}", "key of the worst pair", "empty without pairs", codec="text"),
        of("worst_time_later", "float64", "time of the later observation of the worst pair", units="d"),
        of("worst_time_earlier", "float64", "time of the earlier observation of the worst pair", units="d"),
        of("n_used", "int64", "observations that passed the cuts"),
        of("n_negative", "int64", "negative subtractions that were dropped"),
        of("n_dropped", "int64", "observations that the other cuts dropped"),
    ]
    if parameters.kind == "tail":
        found.insert(1, of("raw_mean", "float64", "dm-dt score (mean)", "what tail ranks", direction="low"))
    if parameters.per_class:
        found.append(
            of("reference_class", "S32", "class of the reference", "empty: all classes", codec="text")
        )
    return tuple(found)


def coords(parameters: Parameters, prepared: Prepared) -> dict[str, list[Any]]:
    """Labels of the keys."""
    return {"key": list(prepared.payload["labels"])}


def block(block: Block, parameters: Parameters, prepared: Prepared, backend: str) -> Arrays:
    """Score the objects of a block."""
    payload = prepared.payload
    rows = usable(block, parameters, payload["flux_zero_point"])
    out = _empty(block.n_objects, gives(parameters, prepared), len(payload["labels"]))
    out["n_used"], out["n_negative"], out["n_dropped"] = rows.n_used, rows.n_negative, rows.n_dropped
    chosen = np.zeros(block.n_objects, "S32")
    if parameters.per_class:
        with_reference = np.array([name.encode() for name in payload["scorers"]], "S32")
        chosen = np.where(np.isin(block.objects["class"], with_reference), block.objects["class"], b"")
        out["reference_class"] = chosen.astype("S32")
    for name, scorer in payload["scorers"].items():
        mine = chosen == name.encode()
        if mine.any():
            _score(out, mine, rows.lightcurves, scorer, parameters, payload, backend)
    out["flagged"] = out["score"] < parameters.threshold
    return out


def _empty(n: int, variables: tuple[Variable, ...], n_keys: int) -> Arrays:
    shapes = {1: (n,), 2: (n, n_keys)}
    return {
        v.name: np.full(shapes[len(v.dims)], np.nan if v.dtype == "float64" else 0).astype(v.dtype)
        if not v.dtype.startswith("S")
        else np.zeros(n, v.dtype)
        for v in variables
    }


def _score(
    out: Arrays,
    mine: np.ndarray,
    everything: dmdt.LightCurves,
    scorer: Scorer,
    parameters: Parameters,
    payload: dict[str, Any],
    backend: str,
) -> None:
    """Score the objects of `mine` and put the results into their rows of `out`."""
    curves = everything if mine.all() else _subset(everything, mine)
    result = dmdt.score(curves, scorer.values, payload["rules"], backend=backend)  # type: ignore[arg-type]
    n_pairs = result.n_pairs.sum(1)
    some = n_pairs > 0
    total = result.total
    if scorer.weights is not None:
        weight = dmdt.score(curves, scorer.weights, payload["rules"], backend=backend)  # type: ignore[arg-type]
        norm = weight.total.sum(1)
        some &= (norm > 0) & (n_pairs >= parameters.min_pairs)
        total = np.divide(total, norm[:, None], out=np.full_like(total, np.nan), where=some[:, None])
        raw = np.where(some, total.sum(1), np.nan)
    else:
        raw = total.sum(1)
    score: np.ndarray = raw
    if parameters.kind == "tail":
        score = tail_probability(
            raw, n_pairs, scorer.sample_score, scorer.sample_pairs, parameters.neighbours
        )
        out["raw_mean"][mine] = raw
    where = np.flatnonzero(mine)
    out["score"][where] = score
    out["n_pairs"][where] = n_pairs
    out["n_penalised"][where] = result.n_penalised.sum(1)
    out["part"][where[np.isfinite(raw)]] = 0.0
    out["part"][np.ix_(where, scorer.keys)] = total
    if len(scorer.keys) == len(payload["labels"]):
        out["key_pairs"][where] = result.n_pairs + result.n_ignored
    else:
        out["key_pairs"][where] = dmdt.pair_counts(curves, payload["codes"], payload["rules"])
    out["n_ignored"][where] = out["key_pairs"][where].sum(1) - n_pairs
    has = result.worst_key >= 0
    later, earlier = result.worst_rows[has].T
    dt = curves.time[later] - curves.time[earlier]
    worst, key = result.worst[has], result.worst_key[has]
    if scorer.weights is not None:
        worst = worst / _row_weight(scorer.weights, key, dt)
    labels = np.array([label.encode() for label in payload["labels"]])
    for name, array in (
        ("worst_value", worst),
        ("worst_dt", dt),
        ("worst_dm", curves.value[later].astype(np.float64) - curves.value[earlier]),
        ("worst_key", labels[scorer.keys[key]]),
        ("worst_time_later", curves.time[later]),
        ("worst_time_earlier", curves.time[earlier]),
    ):
        out[name][where[has]] = array


def _subset(curves: dmdt.LightCurves, mine: np.ndarray) -> dmdt.LightCurves:
    lengths = np.diff(curves.offsets)
    rows = np.repeat(mine, lengths)
    offsets = np.concatenate(([0], np.cumsum(lengths[mine])))
    error = None if curves.error is None else curves.error[rows]
    return dmdt.LightCurves(curves.time[rows], curves.value[rows], error, curves.band[rows], offsets)


def _row_weight(weights: dmdt.CompiledReference, key: np.ndarray, dt: np.ndarray) -> np.ndarray:
    """Weight of single pairs, by the same kernel: each pair as a light curve of two points."""
    n = len(dt)
    if not n:
        return np.zeros(0)
    later, earlier = (np.array([pair[i] for pair in weights.keys])[key] for i in (0, 1))
    first_later = later < earlier
    time, band = np.zeros((n, 2)), np.zeros((n, 2), np.uint8)
    rows = np.arange(n)
    time[rows, np.where(first_later, 0, 1)] = dt
    band[rows, np.where(first_later, 0, 1)] = later
    band[rows, np.where(first_later, 1, 0)] = earlier
    pairs = dmdt.LightCurves(time.ravel(), np.zeros(2 * n), None, band.ravel(), np.arange(0, 2 * n + 1, 2))
    found = dmdt.score(pairs, weights, dmdt.PairRules(), backend="cpu")
    return found.total[rows, key]


def memory(n_objects: int, n_observations: int, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes of work space: selected rows, sums a key and object, single numbers."""
    n_keys = len(prepared.payload["labels"])
    return 90 * n_observations + n_objects * (120 * n_keys + 300)


JOB = Job(
    name="dmdt-score",
    summary="score every object against a dm-dt reference",
    parameters=Parameters,
    needs=job_needs,
    gives=gives,
    prepare=prepare,
    block=block,
    memory=memory,
    kernel_version=f"{dmdt.KERNEL_VERSION}.2",
    backends=("cpu", "cuda"),
    coords=coords,
)
