"""The ranges of a training configuration's values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.config import Augmentation, Config, Loss, Model, Optimiser

SMALLEST_PATCH = 32
"""Voxels: inference needs an inner part within the margins of its window."""


def complaints(config: Config) -> list[str]:
    """What is wrong with a configuration's values, a sentence each."""
    rules = {
        **_model_rules(config.model), **_augmentation_rules(config.augmentation),
        **_loss_rules(config.loss), **_optimiser_rules(config.optimiser),
        "[run] data is missing": not config.run.data,
        "[run] numbers must not be negative": min(
            config.run.seed, config.run.validate_every, config.run.save_every,
            config.run.validation_volumes, config.run.threads,
        ) < 0,
        "[run] precision must be bfloat16 or float32":
            config.run.precision not in ("bfloat16", "float32"),
    }
    return [text for text, broken in rules.items() if broken]


def _model_rules(model: Model) -> dict[str, bool]:
    steps_down = 2 ** (len(model.widths) - 1)
    smallest = max(2 * steps_down, SMALLEST_PATCH)
    return {
        "[model] widths: at least two, each at least 1":
            len(model.widths) < 2 or min(model.widths) < 1,
        f"[model] patch_size must be a multiple of {steps_down} and at least {smallest}":
            model.patch_size % steps_down != 0 or model.patch_size < smallest,
        "[model] dropout must be in 0…0.9": not 0 <= model.dropout <= 0.9,
    }


def _augmentation_rules(augmentation: Augmentation) -> dict[str, bool]:
    low, high = (*augmentation.resolution_angstrom, 0.0)[:2]
    return {
        "[augmentation] resolution_angstrom must be two rising numbers from 3 on":
            len(augmentation.resolution_angstrom) != 2 or not 3 <= low <= high,
        "[augmentation] noise_slope must be two rising numbers":
            len(augmentation.noise_slope) != 2
            or augmentation.noise_slope[0] > augmentation.noise_slope[1],
        "[augmentation] sharpened must be in 0…1": not 0 <= augmentation.sharpened <= 1,
        "[augmentation] sharpening must be two rising numbers in 0…5":
            len(augmentation.sharpening) != 2
            or not 0 <= augmentation.sharpening[0] <= augmentation.sharpening[1] <= 5,
        "[augmentation] filter_shares must be positive numbers, not all 0":
            min(augmentation.filter_shares.values()) < 0
            or sum(augmentation.filter_shares.values()) <= 0,
        "[augmentation] target_anisotropy must be in 0…anisotropy":
            not 0 <= augmentation.target_anisotropy <= augmentation.anisotropy,
        "[augmentation] empty, stored_noise and sphere must be in 0…1": not all(
            0 <= share <= 1
            for share in (augmentation.empty, augmentation.stored_noise, augmentation.sphere)
        ),
        "[augmentation] outside_resolution_angstrom must be at least 3":
            augmentation.outside_resolution_angstrom < 3,
        "[augmentation] excess_noise must be at least 1": augmentation.excess_noise < 1,
        "[augmentation] rotation must be any or cube": augmentation.rotation not in ("any", "cube"),
    }


def _loss_rules(loss: Loss) -> dict[str, bool]:
    weights = loss.inside_weight, loss.error_floor, loss.low_frequency_weight, loss.mask_weight
    return {
        "[loss] weights must not be negative": min(weights) < 0,
        "[loss] recycled must be in 0…1": not 0 <= loss.recycled <= 1,
        "[loss] deepest_recycling must be in 0…10": not 0 <= loss.deepest_recycling <= 10,
        "[loss] teaching must be in 0…1": not 0 <= loss.teaching <= 1,
    }


def _optimiser_rules(optimiser: Optimiser) -> dict[str, bool]:
    return {
        "[optimiser] give steps or budget_minutes":
            optimiser.steps <= 0 and optimiser.budget_minutes <= 0,
        "[optimiser] volumes and patches must be at least 1":
            min(optimiser.volumes, optimiser.patches) < 1,
        "[optimiser] learning rates must be above 0, the last not the larger":
            not 0 < optimiser.last_learning_rate <= optimiser.learning_rate,
        "[optimiser] averaging must be in 0…1": not 0 <= optimiser.averaging < 1,
        "[optimiser] clip must be above 0": optimiser.clip <= 0,
        "[optimiser] steps, budget_minutes, warm_up_steps, weight_decay must not be negative": min(
            optimiser.steps, optimiser.budget_minutes, optimiser.warm_up_steps,
            optimiser.weight_decay,
        ) < 0,
    }
