from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest

from benchmarks.refinement import evaluate, particles, poses, stars, truth
from blush_onnx import fourier, fsc
from blush_onnx.errors import InputError


class TestPoses:
    rng = np.random.default_rng(0)

    def test_euler_angles_give_the_rotation_back(self) -> None:
        rotations = poses.random_rotations(200, self.rng)
        back = poses.matrices(poses.euler_angles(rotations))
        np.testing.assert_allclose(back, rotations, atol=1e-12)

    @pytest.mark.parametrize("tilt", [0.0, 180.0])
    def test_euler_angles_hold_at_the_poles(self, tilt: float) -> None:
        rotations = poses.matrices(np.array([[30.0, tilt, 50.0]]))
        back = poses.matrices(poses.euler_angles(rotations))
        np.testing.assert_allclose(back, rotations, atol=1e-12)

    def test_a_perturbation_has_the_stated_angle(self) -> None:
        rotations = poses.random_rotations(50, self.rng)
        turned = poses.perturbed(rotations, 10.0, self.rng)
        np.testing.assert_allclose(poses.angles_between(turned, rotations), 10.0, atol=1e-9)

    def test_a_perturbation_has_an_axis_of_its_own_for_each(self) -> None:
        rotations = poses.random_rotations(500, self.rng)
        turned = poses.perturbed(rotations, 10.0, self.rng)
        none = np.zeros((500, 2))
        errors = poses.pose_errors(turned, rotations, none, none)
        # The mean of 500 rotations by 10° about random axes: 10° / sqrt(500) = 0.4°.
        assert errors.drift < 1.5
        assert errors.rotation == pytest.approx(10, abs=0.2)

    def test_a_drift_that_all_share_is_no_error_of_the_poses(self) -> None:
        rotations = poses.random_rotations(50, self.rng)
        drift = poses.matrices(np.array([[0.0, 3.0, 0.0]]))
        none = np.zeros((50, 2))
        errors = poses.pose_errors(rotations @ drift, rotations, none, none + [3.0, 4.0])
        assert errors.drift == pytest.approx(3, abs=1e-6)
        assert errors.rotation == pytest.approx(0, abs=1e-6)
        assert errors.shift == pytest.approx(5)


class TestParticles:
    def test_random_phases_leave_what_is_below_and_all_amplitudes(self) -> None:
        rng = np.random.default_rng(1)
        images = rng.standard_normal((3, 32, 32)).astype(np.float32)
        random = particles.phases_randomised(images, 2.0, 8.0, rng)
        before, after = np.fft.rfft2(images), np.fft.rfft2(random)
        frequency = np.hypot(np.fft.fftfreq(32, 2.0)[:, None], np.fft.rfftfreq(32, 2.0))
        inner = frequency <= 1 / 8
        np.testing.assert_allclose(after[:, inner], before[:, inner], atol=1e-3)
        np.testing.assert_allclose(np.abs(after), np.abs(before), rtol=1e-3, atol=1e-3)

    def test_random_phases_correlate_with_nothing_beyond(self) -> None:
        rng = np.random.default_rng(2)
        one = rng.standard_normal((32, 32)).astype(np.float32)
        random = particles.phases_randomised(np.stack([one, one]), 2.0, 8.0, rng)
        frequency = np.hypot(np.fft.fftfreq(32, 2.0)[:, None], np.fft.rfftfreq(32, 2.0))
        a, b, c = (np.fft.rfft2(image)[frequency > 1 / 8] for image in (one, *random))
        for first, second in ((a, b), (a, c), (b, c)):
            size = np.linalg.norm(first) * np.linalg.norm(second)
            # About 400 independent voxels: the standard deviation is 0.04.
            assert abs((first * second.conj()).sum().real) / size < 0.2

    def test_a_seed_means_poses_and_halves_and_start_shifts_differ_from_the_true(self) -> None:
        true, start = particles.draw(400, seed=1)
        again, _ = particles.draw(400, seed=1)
        other, _ = particles.draw(400, seed=2)
        np.testing.assert_array_equal(true.angles, again.angles)
        assert not np.array_equal(true.angles, other.angles)
        assert np.bincount(true.half).tolist() == [0, 200, 200]
        apart = poses.angles_between(poses.matrices(true.angles), poses.matrices(start.angles))
        np.testing.assert_allclose(apart, particles.START_ANGLE, atol=1e-6)
        assert np.std(start.shifts - true.shifts) == pytest.approx(particles.START_SHIFT, rel=0.1)

    def test_a_particle_file_is_read_by_gemmi_in_the_order_of_the_stack(
        self, tmp_path: Path
    ) -> None:
        true, _ = particles.draw(60, seed=1)
        path = tmp_path / "p.star"
        stars.write_particles(path, "p.mrcs", true, 64, 2.0)
        document = gemmi.cif.read(str(path))
        assert document.find_block("optics").find_loop("_rlnImagePixelSize")[0] == "2.0"
        block = document.find_block("particles")
        assert block.find_loop("_rlnImageName")[59] == "000060@p.mrcs"
        assert set(block.find_loop("_rlnRandomSubset")) == {"1", "2"}
        loop = block.find_loop("_rlnImageName").get_loop()
        rows = [
            [loop[line, column] for column in range(loop.width())]
            for line in reversed(range(loop.length()))
        ]
        tags = [tag.removeprefix("_rln") for tag in loop.tags]
        block.init_loop("_rln", tags)
        shuffled = block.find("_rln", tags)
        for line in rows:
            shuffled.append_row(line)
        document.write_file(str(path))
        angles, shifts = stars.read_poses(path)
        np.testing.assert_allclose(angles, true.angles, atol=1e-4)
        np.testing.assert_allclose(shifts, true.shifts, atol=1e-4)

    def test_a_file_without_particles_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "p.star"
        path.write_text("data_optics\n_rlnVoltage 300\n")
        with pytest.raises(InputError, match=r"p\.star holds no particles"):
            stars.read_poses(path)


class TestTruth:
    def test_the_model_is_centred_and_inside_its_mask(self, structure: Path) -> None:
        made = truth.read_truth(structure, 32, 2.0, solvent=False)
        assert made.particle_diameter == 46  # 40 Å and the margin
        grid = np.indices((32,) * 3)
        centre = [(made.density * axis).sum() / made.density.sum() for axis in grid]
        np.testing.assert_allclose(centre, 16, atol=0.01)
        assert made.mask.max() == 1
        assert made.mask.min() == 0
        assert (made.density * made.mask).sum() == pytest.approx(made.density.sum(), rel=0.02)

    def test_a_box_that_is_too_small_names_the_pixel_size_to_take(self, structure: Path) -> None:
        with pytest.raises(InputError, match=r"give a pixel size of 1\.9\d Å or more"):
            truth.read_truth(structure, 32, 1.5)

    def test_a_quarter_turn_moves_voxels_where_the_rotation_says(self) -> None:
        volume = np.zeros((16,) * 3, dtype=np.float32)
        volume[8, 8, 11] = 1  # z, y, x: 3 voxels along x
        quarter = poses.matrices(np.array([[90.0, 0.0, 0.0]]))[0]
        # What lies at x = 3 is seen where G · r is there.
        x, y, z = np.rint(quarter.T @ [3, 0, 0]).astype(int)
        made = truth.turned(volume, quarter)
        assert made[8 + z, 8 + y, 8 + x] == pytest.approx(1, abs=1e-5)

    def test_the_low_passed_map_has_nothing_beyond(self, structure: Path) -> None:
        density = truth.read_truth(structure, 32, 2.0).density
        spectrum = np.abs(np.fft.fftn(truth.low_passed(density, 2.0, 16.0)))
        radius = np.linalg.norm(np.indices((32,) * 3) - 16, axis=0)
        beyond = np.fft.ifftshift(radius) > 64 / 16 + 2
        assert spectrum[beyond].max() < 1e-4 * spectrum.max()


class TestEvaluation:
    def test_a_crossing_lies_between_two_shells(self) -> None:
        curve = np.array([1.0, 0.9, 0.7, 0.3, 0.1])
        assert evaluate.crossing(curve, 0.5, 100.0) == pytest.approx(100 / 2.5)

    def test_a_curve_that_never_falls_reaches_the_last_shell(self) -> None:
        assert evaluate.crossing(np.ones(5), 0.5, 100.0) == pytest.approx(25)

    def test_the_mean_beyond_leaves_out_the_shell_of_the_edge(self) -> None:
        curve = np.array([1.0, 1, 1, 0.5, 0.2, 0.4])
        # 100 Å / 45 Å = shell 2.2; shell 3 holds voxels of both sides.
        assert evaluate.mean_beyond(curve, 45, 100) == pytest.approx(0.3)

    def test_halves_with_independent_noise_promise_what_the_truth_bears_out(self) -> None:
        rng = np.random.default_rng(4)
        truth_map = rng.standard_normal((32,) * 3).astype(np.float32)
        shells = np.linspace(3, 0.2, 17)
        signal = fourier.filter_by_shell(truth_map, shells)
        first, second = (
            signal + rng.standard_normal((32,) * 3).astype(np.float32) for _ in range(2)
        )
        half = fsc.fsc(first, second)
        against = fsc.fsc((first + second) / 2, truth_map)
        # Shell 1 has 9 independent voxels, the others more: the mean is good to about 0.02.
        assert abs(evaluate.overclaim(half, against)) < 0.03
        # Noise that both halves share is what overfitting looks like.
        assert evaluate.overclaim(fsc.fsc(first, first), against) > 0.1

    def test_halves_that_promise_nothing_claim_nothing(self) -> None:
        assert evaluate.overclaim(np.array([1.0, 0.1, 0.0]), np.zeros(3)) == 0
