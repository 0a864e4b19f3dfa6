"""The ray cast that holds labels to account is itself held against a sphere's formula."""

import numpy as np
import pytest

from annotation.labels import Labels
from render.crosscheck import RIGS, RayCaster, angle_deg, ball, cast_ball, disagreement, interior
from render.person import Material
from render.spec import Placement

RADIUS, CENTRE = 0.4, np.array([0.1, -0.2, 1.0])
FACET = 0.3 * RADIUS / 4**6


@pytest.fixture(scope="module")
def caster() -> RayCaster:
    return RayCaster([ball(RADIUS, CENTRE, Material("skin"), 6)], [Placement()])


@pytest.mark.parametrize("name", RIGS)
def test_cast_of_a_faceted_ball_is_the_ball(name: str, caster: RayCaster) -> None:
    rig = RIGS[name]
    camera = rig.view(CENTRE).camera(rig.width, rig.height)
    cast, truth = caster.cast(camera), cast_ball(RADIUS, CENTRE, camera)
    toward = camera.world_normals_to_label(-camera.rays())
    slant = np.einsum("hwc,hwc->hw", truth.normal, toward) / np.linalg.norm(toward, axis=-1)
    facing = interior(truth.mask) & (slant > 0.2)
    assert facing.sum() > 30
    assert (np.abs(cast.depth - truth.depth) * slant)[facing].max() < FACET
    assert angle_deg(cast.normal, truth.normal)[facing].max() < 0.02
    assert 0.05 < angle_deg(cast.geometric_normal, truth.normal)[facing].max() < 1.5
    assert not (cast.mask != truth.mask)[facing | interior(~truth.mask)].any()
    assert not cast.depth[~cast.mask].any() and not cast.normal[~cast.mask].any()


@pytest.mark.parametrize("name", RIGS)
def test_rigs_put_their_target_on_the_optical_axis(name: str) -> None:
    rig = RIGS[name]
    camera = rig.view(CENTRE).camera(rig.width, rig.height)
    x, y, z = camera.project(CENTRE[None])[0]
    assert (x, y) == pytest.approx((camera.K[0, 2], camera.K[1, 2])) and z == pytest.approx(rig.distance)


def test_people_stand_where_they_are_placed_and_hide_each_other() -> None:
    one = ball(RADIUS, np.array([0.0, 0.0, 1.0]), Material("skin"), 4)
    apart = RayCaster([one, one], [Placement(x=-0.5), Placement(x=0.5)])
    behind = RayCaster([one, one], [Placement(y=3.0), Placement()])
    camera = RIGS["landscape"].view(np.array([0.0, 0.0, 1.0])).camera(64, 48)
    assert set(np.unique(apart.cast(camera).instance)) == {0, 1, 2}
    front = RIGS["portrait"].view(np.array([0.0, 0.0, 1.0])).camera(48, 64)
    seen = behind.cast(front).instance
    assert (seen == 2).sum() > (seen == 1).sum()


def test_a_cast_disagrees_with_nothing_but_another_surface(caster: RayCaster) -> None:
    rig = RIGS["portrait"]
    camera = rig.view(CENTRE).camera(rig.width, rig.height)
    casts = caster.cast_around(camera)
    labels = Labels(
        depth=casts[0].depth.astype(np.float32),
        normal=casts[0].normal.astype(np.float32),
        geometric_normal=casts[0].geometric_normal.astype(np.float32),
        instance=casts[0].instance,
        camera=camera,
    )
    same = disagreement(labels, casts)
    assert same.mask_px == same.instance_px == same.unsettled == 0 and same.raw["depth_rel"] < 1e-7
    assert same.raw["normal_deg"] < 1e-4
    beside = RayCaster([ball(RADIUS, CENTRE, Material("skin"), 6)], [Placement(x=0.002)])
    other = disagreement(labels, beside.cast_around(camera))
    assert other.depth_rel > 1e-4 and other.normal_deg > 0.1 and other.unsettled == other.pixels
