"""What a cut did, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["CompressionEvent", "LayerCut"]


@dataclass(frozen=True, eq=False)
class LayerCut:
    """What one cut did to one layer.

    Parameters
    ----------
    name : str
        Qualified name of the layer in the model.
    before, after : int
        Stored states (`d_state`) before and after; equal if nothing was cut.
    order : int
        Order of the reduced system: real states if the real system was reduced, else complex ones.
        It may be up to twice `after`, as a conjugate pair is two real states and one stored state.
        The largest of the channels, if each is a separate system.
    hsv : ndarray (..., n)
        Hankel singular values before the cut, of each channel; empty if they could not be computed.
        For a selective layer, the scores of its states, see `state_values`.
    error_bound : float
        Upper bound on the H-infinity norm of the change of the layer, rounding included; infinite
        with a Gramian type that has no bound, and for selective layers.
    energy_kept : float
        Energy fraction: the sum of the values of the states that are kept, relative to the sum of
        all.
    condition : float
        Condition number of the return to diagonal form, the largest of the channels; 1 if nothing
        was cut.
    parameters : (int, int)
        Number of entries of the layer's parameters, before and after.
    flops : (int, int)
        Floating-point operations of one token (time step) of each sequence, before and after: of
        the recurrence in diagonal form; of a selective layer, of all its weights and the
        recurrence. 0 if the layer could not be read.
    state_bytes : (int, int)
        Bytes that a sequence takes between two tokens in the precision of the layer (states of a
        selective layer in single precision at least), before and after: its states, and the last
        inputs of a convolution inside the layer. 0 if the layer could not be read.
    step_seconds : (float, float) or None
        Seconds of a forward and backward pass of the layer on as many sequences as it was given at
        once, all of them the first one, before and after; see `preview`.
    rounding : float
        Error by the diagonal form and by the precision of the parameters: distance between the
        layer as written and the reduced system, the largest over frequency, relative to the peak.
    skipped : str or None
        Why the layer was left as it was; None if it was cut, or if the policy kept every state.
    gramians : str
        The Gramian type by which the states were scored: "model", "input", "data", "output", or
        one of your own; see `Compressor`. Empty if they were not scored. "input" also where it
        stood in for "output" (linear layers, the delta rule), or where the exact observability
        Gramian replaced that of "data", to keep the layer stable.
    output_error : float or None
        Root mean square of the change of the system's output, relative to that of the output,
        measured on every eighth observed sequence, which is not used in the reduction; for a
        selective layer, of the whole layer's output. None if fewer than eight sequences were
        observed, an output is not finite, or nothing was cut.
    advice : str or None
        Where the policy kept every state of every layer: which looser one would remove some.
    """

    name: str
    before: int
    after: int
    order: int
    hsv: np.ndarray = field(repr=False)
    error_bound: float = 0.0
    energy_kept: float = 1.0
    condition: float = 1.0
    parameters: tuple[int, int] = (0, 0)
    flops: tuple[int, int] = (0, 0)
    state_bytes: tuple[int, int] = (0, 0)
    step_seconds: tuple[float, float] | None = None
    rounding: float = 0.0
    skipped: str | None = None
    gramians: str = ""
    output_error: float | None = None
    advice: str | None = None

    def refused(self, reason: str) -> LayerCut:
        """The cut of the same layer when it is left as it is, for a `reason`."""
        return LayerCut(
            self.name,
            self.before,
            self.before,
            self.hsv.shape[-1],
            self.hsv,
            parameters=(self.parameters[0], self.parameters[0]),
            flops=(self.flops[0], self.flops[0]),
            state_bytes=(self.state_bytes[0], self.state_bytes[0]),
            skipped=reason,
            gramians=self.gramians,
        )


@dataclass(frozen=True, eq=False)
class CompressionEvent:
    """What one cut did to a model.

    Parameters
    ----------
    step : int
        Optimizer steps before the cut; 0 for `compress_`.
    layers : tuple of LayerCut
        One for each state-space layer, in the order of the model.
    """

    step: int
    layers: tuple[LayerCut, ...]

    @property
    def advice(self) -> str | None:
        """What would remove states, if the policy kept all of them; see `LayerCut`."""
        return next((cut.advice for cut in self.layers if cut.advice), None)

    @property
    def removed(self) -> bool:
        """Whether a layer stores fewer states than before."""
        return any(cut.after < cut.before for cut in self.layers)

    def __str__(self) -> str:
        cuts = ", ".join(
            f"{cut.name or 'layer'}: {cut.before} -> {cut.after}"
            + (f" by {cut.gramians}" if cut.gramians else "")
            + (f" (skipped: {cut.skipped})" if cut.skipped else "")
            for cut in self.layers
        )
        return f"step {self.step}: {cuts}" + (f"; {self.advice}" if self.advice else "")

    def metrics(self) -> dict[str, float]:
        """``<layer>/states`` and ``<layer>/energy_kept``, for a logger."""
        states = {f"{cut.name}/states": float(cut.after) for cut in self.layers}
        return states | {f"{cut.name}/energy_kept": cut.energy_kept for cut in self.layers}
