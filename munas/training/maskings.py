"""Published ways to prune beside those of the recipes, for `munas.training.pruning_table`; a search uses none of them.

In all of them the sparsity rises in the same window, after which the network that is left has the rest of the cycle.
"""

from __future__ import annotations

from dataclasses import replace

from munas.arch.channels import Masks
from munas.arch.prune import apply_masks, masks_at
from munas.training.backend import tf
from munas.training.fit import Training


class Gradual(Training):
    """By the norms of kernels; what is masked stays masked (Zhu and Gupta, arXiv 1710.01878)."""

    def _chosen_masks(self, sparsity: float) -> Masks:
        return masks_at(self.graph, self.masked_weights(), sparsity)


class Soft(Training):
    """By the norms of kernels: at the start of each epoch of the window those of the chosen channels are set to zero
    and go on training, so that they can recover, behind a ReLU too, as their biases are left alone; at the window's end
    those with the smallest kernels are cut out (after soft filter pruning, He et al., arXiv 1808.06866, which has many
    more epochs; three passes have three in the window)."""

    _epoch_of_zeros = -1

    def _renew_masks(self, step: int) -> None:
        schedule, epoch = self._schedule, step // self._schedule.epoch_steps
        if self._masks_final or step < schedule.prune_begin or step >= schedule.prune_end:
            super()._renew_masks(step)
        elif epoch != self._epoch_of_zeros:
            self._epoch_of_zeros = epoch
            self._zero(self._chosen_masks(schedule.sparsity(step, self._trial.sparsity)))

    def _zero(self, masks: Masks) -> None:
        """Set the kernels of the channels that masks leave out to zero, in what is trained."""
        weights = self.weights()
        for layer, masked in zip(weights, apply_masks(self.graph, weights, masks), strict=True):
            if layer:
                layer["kernel"] = masked["kernel"]
        trained, _ = self._parameters.flatten(weights)
        self._state = replace(self._state, weights=tf.constant(trained))
