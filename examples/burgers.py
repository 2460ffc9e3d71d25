"""The landscape of a physics-informed net that solves Burgers' equation, u_t + u u_x = (0.01 / π) u_xx."""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape


def residual(net: nn.Module, points: Tensor) -> Tensor:
    """u_t + u u_x − ν u_xx at points (t, x), shape (n,)."""
    points = points.detach().requires_grad_()
    u = net(points)
    u_t, u_x = torch.autograd.grad(u.sum(), points, create_graph=True)[0].unbind(dim=1)
    u_xx = torch.autograd.grad(u_x.sum(), points, create_graph=True)[0][:, 1]
    return u_t + u.squeeze(1) * u_x - 0.01 / math.pi * u_xx


def physics_loss(net: nn.Module, points: Tensor, edges: Tensor) -> Tensor:
    """The equation inside, u = −sin πx at the start, u = 0 at both ends; one value a sample, shape (n,)."""
    start = torch.stack([torch.zeros_like(edges), edges], dim=1)
    ends = torch.stack([edges.abs(), edges.sign()], dim=1)
    initial = net(start).squeeze(1) + torch.sin(math.pi * edges)
    return residual(net, points).square() + initial.square() + net(ends).squeeze(1).square()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000, help="of Adam")
    parser.add_argument("--points", type=int, default=25, help="grid points along each direction")
    parser.add_argument("--out", type=Path, default=Path("burgers"), help="where the pictures go")
    arguments = parser.parse_args(argv)

    torch.manual_seed(0)
    points = torch.rand(2000, 2) * torch.tensor([1.0, 2.0]) - torch.tensor([0.0, 1.0])
    edges = torch.rand(2000) * 2 - 1
    net = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(arguments.steps):
        chosen = torch.randint(len(points), (256,))
        loss = physics_loss(net, points[chosen], edges[chosen]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    loader = DataLoader(TensorDataset(points, edges), batch_size=500)
    landscape = LossLandscape(net, loader, physics_loss, surf_file=arguments.out / "burgers.h5")
    landscape.compute_2d(xrange=(-1, 1, arguments.points), yrange=(-1, 1, arguments.points))
    landscape.plot_2d_contour()
    landscape.plot_2d_surface()
    print(f"Loss {landscape.landscape.center['train_loss']:.4f}; pictures: {arguments.out}")


if __name__ == "__main__":
    main()
