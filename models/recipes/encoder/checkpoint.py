"""A run's weights, its optimiser's moments and where it stands: safetensors, written aside and then renamed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_NAME, _BEST = "checkpoint.safetensors", "best.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class State:
    """Where a run stands.

    Attributes:
        best: highest measurement so far.
        waited: measurements since.
    """

    step: int = 0
    best: float = -1.0
    waited: int = 0

    def after_step(self) -> State:
        return replace(self, step=self.step + 1)

    def measured(self, value: float | None) -> State:
        """With a measurement of the left-out collections, if there are some."""
        if value is None:
            return self
        return replace(self, best=value, waited=0) if value > self.best else replace(self, waited=self.waited + 1)


def _write(path: Path, tensors: dict[str, Tensor], facts: dict[str, str]) -> None:
    part = path.with_suffix(".part")
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, part, metadata=facts)
    part.replace(path)


def save(folder: Path, state: State, trained: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
    """All that `load` needs; the weights apart where the last measurement was the best."""
    tensors: dict[str, Tensor] = dict(trained)
    for name, parameter in trained.items():
        kept = optimiser.state.get(parameter, {})
        tensors |= {f"{moment}:{name}": kept[moment] for moment in _MOMENTS if moment in kept}
    facts = {"step": str(state.step), "best": repr(state.best), "waited": str(state.waited)}
    _write(folder / _NAME, tensors, facts)
    if state.waited == 0:
        _write(folder / _BEST, dict(trained), facts)


def load(folder: Path, trained: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> State:
    """Put a saved run's weights and moments back."""
    path = folder / _NAME
    if not path.exists():
        raise SystemExit(f"{path} is missing: there is no run to resume; leave --resume out")
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    tensors = load_file(path)
    state = State(int(facts["step"]), float(facts["best"]), int(facts["waited"]))
    _fill(trained, tensors)
    for name, parameter in trained.items():
        if f"exp_avg:{name}" in tensors:
            moments = {moment: tensors[f"{moment}:{name}"].to(parameter.device) for moment in _MOMENTS}
            optimiser.state[parameter] = {"step": torch.tensor(float(state.step)), **moments}
    return state


def load_best(folder: Path, trained: dict[str, nn.Parameter]) -> None:
    """The weights of the best measurement."""
    _fill(trained, load_file(folder / _BEST))


@torch.no_grad()
def _fill(trained: dict[str, nn.Parameter], tensors: dict[str, Tensor]) -> None:
    missing = sorted(set(trained) - set(tensors))
    if missing:
        raise SystemExit(f"the checkpoint lacks {missing[0]!r}: it is of another method")
    for name, parameter in trained.items():
        parameter.copy_(tensors[name])
