"""Scores poses: all people of all images as COCO does, points of people whose box is known as PCK does."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64

from annotation.keypoints import KeypointVocabulary
from annotation.labels import Labels
from train.metrics.boxes import detections_of, image_id
from train.metrics.coco import KeypointMatches, PosedPerson, PoseGuess, match_parts, with_hands
from train.metrics.pose import (
    coco_result,
    oks,
    pck_groups,
    pck_scores,
    pck_sums,
    person_score,
    without_duplicates,
)
from train.metrics.resampling import ImageSums, Scores
from train.tasks.people import has_box, posed_person


class PoseEvaluator:
    """Truth and guesses of all people. `padding`: of boxes; `detected`: cases are a detector's boxes."""

    def __init__(self, vocabulary: KeypointVocabulary, padding: float, detected: bool) -> None:
        self.vocabulary, self.padding, self.detected = vocabulary, padding, detected
        self.keep_images = True
        self.names: dict[str, Any] = {}
        """Key -> the data set's own name of the image."""
        self.numbers: dict[str, int] = {}
        """Key -> number of the image, from 1, in the order in which they come."""
        self.truth: dict[int, dict[int, PosedPerson]] = {}
        self.guesses: dict[int, list[PoseGuess]] = {}
        self.groups = pck_groups(vocabulary)
        size = len(pck_sums(np.zeros((len(vocabulary), 3)), np.zeros((len(vocabulary), 3)), 1.0, self.groups))
        self.points = ImageSums(size, pck_scores(list(self.groups)))

    def begin(self, key: str, labels: Labels) -> None:
        """Everybody in the image counts as truth, with or without a case."""
        assert labels.keypoints is not None
        self.names[key] = image_id(key, labels)
        image = self.numbers[key] = len(self.names)
        people = [person for person in range(len(labels.keypoints)) if has_box(labels, person)]
        self.truth[image] = {person: posed_person(labels, person, image) for person in people}
        self.guesses[image] = []

    def add(
        self, key: str, labels: Labels, person: int, prediction: Float64[np.ndarray, "K 3"]
    ) -> dict[str, float]:
        if key not in self.names:
            self.begin(key, labels)
        image = self.numbers[key]
        people = self.truth[image]
        if self.detected:
            detection = detections_of(labels)[person]
            width, height = detection.box[2:]
            box_score = detection.score
        else:
            (width, height), box_score = people[person].box[2:], 1.0
        area = width * height * self.padding**2
        guess = PoseGuess(image, prediction, person_score(prediction, box_score), area)
        self.guesses[image].append(guess)
        candidates = people.values() if self.detected else [people[person]]
        row = {"oks": max((self._oks(one, guess) for one in candidates), default=0.0), "score": guess.score}
        return row if self.detected else {**self._count_points(key, people[person], guess), **row}

    def compute(self) -> dict[str, float]:
        """With the truth's boxes pck02 .. pck20, error_px, pck10/<part>; then COCO's ten, and ap/<part> and
        ar/<part>.
        """
        if not any(self.truth.values()):
            return {}
        whole = dict(self.matches[""].stats)
        parts = {
            f"{score}/{part}": matches.stats[score]
            for part, matches in self.matches.items()
            for score in ("ap", "ar")
            if part
        }
        scores = {**whole, **{name: float(value) for name, value in with_hands(parts).items()}}
        return scores if self.detected else {**self.points.compute(), **scores}

    @property
    def keys(self) -> Sequence[str]:
        return list(self.names)

    def resampled(self, weights_RI: Float64[np.ndarray, "R I"]) -> Scores:
        """PCK and error, ap and ar of all points and of each part; not of the other eight of COCO."""
        parts = {
            f"{score}/{part}" if part else score: values
            for part, matches in self.matches.items()
            for score, values in matches.resampled(weights_RI).items()
        }
        scores: Scores = {
            name: np.where(values < 0, np.nan, values) for name, values in with_hands(parts).items()
        }
        if self.detected or not self.points.keys:
            return scores
        column = {key: number for number, key in enumerate(self.names)}
        return {**self.points.resampled(weights_RI[:, [column[key] for key in self.points.keys]]), **scores}

    def files(self) -> dict[str, bytes]:
        """keypoints.json: COCO results, best first in each image."""
        names = {number: self.names[key] for key, number in self.numbers.items()}
        entries = [coco_result(guess, names[guess.image], self.vocabulary) for guess in self._kept]
        return {"keypoints.json": json.dumps(entries).encode()}

    @cached_property
    def matches(self) -> Mapping[str, KeypointMatches]:
        """COCO's matching of everything added; nothing may be added afterwards."""
        truth = [person for people in self.truth.values() for person in people.values()]
        unsized = [PoseGuess(guess.image, guess.keypoints, guess.score) for guess in self._kept]
        return match_parts(truth, unsized, self.vocabulary, list(self.truth))

    @cached_property
    def _kept(self) -> list[PoseGuess]:
        thinned = (without_duplicates(guesses, self.vocabulary.sigmas) for guesses in self.guesses.values())
        return [guess for guesses in thinned for guess in guesses]

    def _oks(self, person: PosedPerson, guess: PoseGuess) -> float:
        return oks(person.keypoints, guess.keypoints, person.area, self.vocabulary.sigmas)

    def _count_points(self, key: str, person: PosedPerson, guess: PoseGuess) -> dict[str, float]:
        sums = pck_sums(person.keypoints, guess.keypoints, max(person.box[2:]), self.groups)
        self.points.keep_images = self.keep_images
        self.points.count(key, sums)
        alone = {name: float(values[0]) for name, values in self.points.scores(sums[None]).items()}
        return {name: alone[name] for name in ("pck10", "error_px")} | {"points": int(sums[0])}
