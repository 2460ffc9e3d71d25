"""The kernels of torch that have second derivatives, in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import nn

from ..isolation.precision import preserve_matmul_precision
from ..isolation.rng import preserved


@contextmanager
def differentiable_twice(module: nn.Module) -> Iterator[None]:
    """A context in which a module is computed by kernels with second derivatives, and without TF32.

    Attention runs under the math kernel, since the fused kernels have no second derivatives. Recurrent nets run without
    cuDNN, which has none either. Random streams are put back at the end.

    >>> import torch.nn.functional as F
    >>> q = torch.ones(1, 2, 4, requires_grad=True)
    >>> with differentiable_twice(nn.Identity()):
    ...     (g,) = torch.autograd.grad(F.scaled_dot_product_attention(q, q, q).sum(), q, create_graph=True)
    ...     torch.autograd.grad(g.sum(), q)[0].shape
    torch.Size([1, 2, 4])
    """
    recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())
    cudnn = torch.backends.cudnn
    with ExitStack() as stack:
        stack.enter_context(preserved())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_math_attention())
        stack.enter_context(preserve_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        stack.enter_context(
            cudnn.flags(
                enabled=cudnn.enabled and not recurrent,
                benchmark=cudnn.benchmark,
                deterministic=cudnn.deterministic,
                allow_tf32=False,
            )
        )
        yield


def _math_attention() -> AbstractContextManager[None]:
    """The context of the math kernel of attention, under the name of this version of torch."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # torch 2.2
        return torch.backends.cuda.sdp_kernel(enable_flash=False, enable_math=True, enable_mem_efficient=False)
    return sdpa_kernel(SDPBackend.MATH)
