"""Starting weights as a pure function of (seed, parameter name), so that every world size starts from the
same model.
"""

import hashlib
from typing import Any

import torch
from jaxtyping import Float32, Shaped
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

ZERO_BIASED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def initialise(model: nn.Module, seed: int) -> None:
    """Fill every parameter of `model`, sharded or not, in place.

    Linear, convolution: Xavier-uniform on the flattened kernel, bias 0 (`mlp` biases N(0, 1e-6)); LayerNorm 1
    and 0. A module with parameters of its own defines `initial_parameter(name, generator) -> Tensor`. Source:
    the released pretraining recipe.
    """
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            assign(parameter, _initial(module, path, name, tuple(parameter.shape), seed))


def assign(parameter: Tensor, full: Shaped[Tensor, "..."]) -> None:
    """Write the full tensor `full` (the same on every rank) into `parameter`, which may be a shard of it."""
    full = full.to(parameter.device, parameter.dtype)
    if isinstance(parameter, DTensor):
        full = distribute_tensor(full, parameter.device_mesh, parameter.placements, src_data_rank=None)
    with torch.no_grad():
        parameter.copy_(full)


def named_generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator seeded by (seed, name)."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _initial(
    module: nn.Module, path: str, name: str, shape: tuple[int, ...], seed: int
) -> Float32[Tensor, "..."]:
    generator = named_generator(seed, f"{path}.{name}")
    if hasattr(module, "initial_parameter"):
        draw: Any = module.initial_parameter
        own: Tensor = draw(name, generator)
        return own
    if isinstance(module, nn.LayerNorm):
        return torch.full(shape, float(name == "weight"))
    if not isinstance(module, ZERO_BIASED):
        raise TypeError(
            f"{path}: {type(module).__name__} has parameters but no `initial_parameter(name, generator)`"
        )
    if name == "bias":
        spread = 1e-6 if ".mlp." in path else 0.0
        return torch.randn(shape, generator=generator) * spread
    bound = (6 / (shape[0] + torch.Size(shape[1:]).numel())) ** 0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
