"""Boxes: order, geometry, merging, and the round trip through a table."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.boxes import Boxes, area, clip, from_rows, intersection, make_boxes, merge

corner = st.floats(0, 1000, width=32)
found = st.lists(st.tuples(st.tuples(corner, corner, corner, corner), st.floats(0, 1, width=32)), max_size=8)


@given(found, st.randoms())
def test_the_order_found_does_not_matter(
    pairs: list[tuple[tuple[float, ...], float]], random: object
) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = make_boxes(pairs), make_boxes(shuffled)
    np.testing.assert_array_equal(one.xyxy, other.xyxy)
    np.testing.assert_array_equal(one.score, other.score)
    assert (np.diff(one.score) <= 0).all()


@given(found)
def test_rows_keep_boxes_to_their_rounding(pairs: list[tuple[tuple[float, ...], float]]) -> None:
    boxes = make_boxes(pairs)
    back = make_boxes([(b.xyxy[0].tolist(), 0.5) for b in (from_rows([row]) for row in boxes.to_rows())])
    again = make_boxes([(corners.tolist(), 0.5) for corners in boxes.xyxy])
    assert len(back) == len(boxes)
    np.testing.assert_allclose(np.sort(back.xyxy, axis=0), np.sort(again.xyxy, axis=0), atol=0.006)


def test_geometry() -> None:
    boxes = np.array([[0, 0, 10, 20], [5, 10, 15, 30], [50, 50, 40, 60]], np.float32)
    np.testing.assert_array_equal(area(boxes), [200, 200, 0])
    np.testing.assert_array_equal(intersection(boxes[:2], boxes[:2]), [[200, 50], [50, 200]])
    clipped = clip(Boxes(boxes, np.ones(3, np.float32)), 12, 25)
    np.testing.assert_array_equal(clipped.xyxy[1], [5, 10, 12, 25])


def test_merge_keeps_the_best_of_one_person() -> None:
    body, head, other = [0.0, 0.0, 100.0, 300.0], [30.0, 0.0, 70.0, 50.0], [90.0, 0.0, 190.0, 300.0]
    merged = merge(make_boxes([(head, 0.4), (body, 0.9), (other, 0.6)]), share=0.5)
    np.testing.assert_array_equal(merged.xyxy, [body, other])
    assert len(merge(make_boxes([]), share=0.5)) == 0
