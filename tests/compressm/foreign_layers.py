"""Layers as other packages write them, for tests of what is read from them."""

import warnings

import torch
from torch import nn

from compressm import LRU, S4D

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script
    import neural_ssm.ssm
    import s5

__all__ = ["MinimalLRU", "PublishedS4D", "PytorchLRU", "neural_lru", "neural_ssm", "s5"]


def neural_lru(d_model, d_state):
    """The LRU of neural-ssm, without the graph that it keeps from its construction."""
    layer = neural_ssm.ssm.LRU(d_model, d_model, d_state, rmax=0.98)
    layer.lambdas, layer.B = layer.lambdas.detach(), layer.B.detach()  # deepcopy takes leaves only
    return layer


class MinimalLRU(nn.Module):
    """What ports of minimal-LRU to torch look like: real and imaginary parts by name."""

    def __init__(self, d_model, d_state):
        super().__init__()
        ours = LRU(d_model, d_state, r_max=0.98)
        for name in ("nu_log", "theta_log", "gamma_log", "D"):
            self.register_parameter(name, getattr(ours, name))
        for name in ("B", "C"):
            self.register_parameter(
                f"{name}_re", nn.Parameter(getattr(ours, name)[..., 0].detach().clone())
            )
            self.register_parameter(
                f"{name}_im", nn.Parameter(getattr(ours, name)[..., 1].detach().clone())
            )

    def forward(self, u):
        poles = torch.polar((-self.nu_log.exp()).exp(), self.theta_log.exp())
        B = self.gamma_log.exp()[:, None] * torch.complex(self.B_re, self.B_im)
        return recur(u, poles, B, torch.complex(self.C_re, self.C_im)) + self.D * u


class PytorchLRU(nn.Module):
    """The LRU of LRU-pytorch and its relatives: complex matrices, a full D, more outputs."""

    def __init__(self, in_features, out_features, state_features):
        super().__init__()
        ours = LRU(in_features, state_features, r_max=0.98)
        self.state_features = state_features
        self.state = torch.zeros(state_features)  # where a sequence starts: a plain tensor
        self.D = nn.Parameter(torch.randn(out_features, in_features))
        self.nu_log, self.theta_log, self.gamma_log = ours.nu_log, ours.theta_log, ours.gamma_log
        self.B = nn.Parameter(torch.view_as_complex(ours.B.detach()))
        self.C = nn.Parameter(
            torch.complex(*torch.randn(2, out_features, state_features) / state_features**0.5)
        )

    def forward(self, u):
        poles = torch.polar((-self.nu_log.exp()).exp(), self.theta_log.exp())
        assert len(poles) == self.state_features
        B = self.gamma_log.exp()[:, None] * self.B
        return recur(u, poles, B, self.C, self.state) + u @ self.D.mT


class PublishedS4D(nn.Module):
    """The S4D module that its authors publish on its own, in names, shapes and order of axes."""

    class Kernel(nn.Module):
        def __init__(self, ours):
            super().__init__()
            self.C, self.log_A_real, self.A_imag = ours.C, ours.log_A_real, ours.A_imag
            self.register_buffer("log_dt", ours.log_dt.detach())  # as with a learning rate of 0

        def forward(self, length):
            A = -self.log_A_real.exp() + 1j * self.A_imag
            w = A * self.log_dt.exp()[:, None]
            C = torch.view_as_complex(self.C) * (w.exp() - 1) / A
            powers = (w[..., None] * torch.arange(length)).exp()
            return 2 * torch.einsum("hn,hnl->hl", C, powers).real

    def __init__(self, d_model, d_state):
        super().__init__()
        ours = S4D(d_model, d_state, dt_min=0.05, dt_max=0.3)
        self.D, self.kernel = ours.D, self.Kernel(ours)
        self.output_linear = nn.Sequential(nn.Conv1d(d_model, 2 * d_model, 1), nn.GLU(dim=-2))

    def system(self, u):
        K, u = self.kernel(u.shape[1]), u.mT
        y = torch.stack(
            [(K[:, : t + 1].flip(1) * u[..., : t + 1]).sum(-1) for t in range(u.shape[-1])], -1
        )
        return (y + u * self.D[:, None]).mT

    def forward(self, u):  # (batch, channels, length)
        return self.output_linear(nn.functional.gelu(self.system(u.mT).mT)), None


def recur(u, poles, B, C, x=0.0):
    y = []
    for v in u.unbind(1):
        x = poles * x + v.to(B.dtype) @ B.mT
        y.append((x @ C.mT).real)
    return torch.stack(y, dim=1)
