# %% [markdown]
# # Concepts, in pictures
#
# This page explains what the kernels are, for a reader who knows Gaussian processes and no group theory.
#
# ## An infinitely wide network is a Gaussian process
#
# Draw the weights of a network at random and look at its output at two inputs. As layers get wider, the joint distribution becomes normal.
# Its covariance is the *NNGP kernel*. A layer at a time, it follows a simple recursion: a linear layer multiplies the kernel by
# $W^2$ and adds $b^2$; a nonlinearity $\varphi$ maps it to $E[\varphi(u)\varphi(v)]$ for normal $(u, v)$ of that covariance.
#
# Train such a network by gradient descent and its output moves as in a linear model. The kernel of that model is the *neural tangent kernel*
# (NTK), which follows a recursion of the same kind. So "a trained infinitely wide network" is kernel regression with the NTK.

# %% tags=["hide"]
import jax
import matplotlib.pyplot as plt
import numpy as np
import so3ntk

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
rng = np.random.default_rng(0)
x = so3ntk.SphereSignal(rng.normal(size=(2, 9, 1)), 3)
figure, axes = plt.subplots(1, 3, figsize=(8, 3.2), constrained_layout=True, sharex=True, sharey=True)
for ax, width in zip(axes, (1, 8, 64), strict=True):
    net = so3ntk.serial(so3ntk.Lift(width=width), so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense(1))
    draw = jax.jit(lambda key, net=net: net.apply_fn(net.init_fn(key, x.shape)[1], x)[:, 0])
    outputs = np.stack([draw(jax.random.key(i)) for i in range(400)])
    kernel = np.asarray(net.kernel_fn(x, None, "nngp"))
    values, vectors = np.linalg.eigh(kernel)
    circle = np.linspace(0, 2 * np.pi, 200)
    for scale in (1, 2):
        ellipse = vectors @ (scale * np.sqrt(values)[:, None] * np.stack([np.cos(circle), np.sin(circle)]))
        ax.plot(*ellipse, color="C3", lw=1.2)
    ax.plot(*outputs.T, ".", ms=2.5, alpha=0.5)
    limit = 3.5 * np.sqrt(kernel.max())
    ax.set_box_aspect(1)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="output at input 1", title=f"width {width}")
axes[0].set_ylabel("output at input 2")

# %% [markdown]
# *Dots: 400 networks with random weights, their outputs at two inputs. Ellipses: one and two standard deviations of the NNGP kernel.*
#
# ## Symmetry: copies of the input
#
# A molecule has no up, a tissue slide no left. If the answer does not depend on how an input is turned, the kernel should not either. The
# network of this library sees an input *together with all its turned copies*. Each copy goes through the same layers; at the end their mean is
# taken. Turn the input, and you have the same copies in another order.

# %% tags=["hide"]
theta, phi = np.pi * (np.arange(16)[:, None] + 0.5) / 16, 2 * np.pi * np.arange(15) / 15
points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi], -1)


def flashes(*places):
    total = 0
    for weight, (latitude, longitude) in zip((1, 0.6), places, strict=False):
        a, b = np.radians(latitude), np.radians(longitude)
        total = total + weight * np.exp(7 * (points @ [np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)] - 1))
    return so3ntk.SphereSignal.from_samples(total[None, ..., None], "dh", 8)


f, g = flashes((20, -60), (10, 10)), flashes((-25, 40), (-25, 110))
figure = plt.figure(figsize=(8, 3.1), constrained_layout=True)
copies = [f, *(so3ntk.rotate(f, r) for r in so3ntk.random_rotations(5, seed=4))]
for place, copy in enumerate(copies, 1):
    ax = figure.add_subplot(2, 3, place, projection="mollweide")
    lat, lon = np.linspace(-90, 90, 120), np.linspace(-180, 180, 240)
    ax.pcolormesh(
        np.radians(lon), np.radians(lat), copy.to_map(lat, lon)[0, ..., 0], shading="gouraud", rasterized=True
    )
    ax.set(xticklabels=[], yticklabels=[])
    ax.set_title("f" if place == 1 else f"f turned by $r_{place - 1}$", fontsize=9)

# %% [markdown]
# ## Relative motions: the one idea
#
# Take two signals, f and f'. The kernel of such a network compares every copy of f with every copy of f'. That sounds like a table over all pairs of
# turns. But only the turn *between* two copies matters: turning both by the same $r$ changes nothing. So all there is to know is one function,
#
# $$K_r(f, f') = \text{kernel of } f \text{ and of } f' \text{ turned by } r .$$
#
# We call $r$ the *relative motion*. Each layer acts on $K_r$ for every $r$ by itself, as if the network had no symmetry at all. Pooling takes the mean
# over $r$. That is the whole method; the rest is to do it exactly and fast.
#
# Here is that function along one axis: f' is turned about the vertical axis by an angle, and compared with f.

# %% tags=["hide"]
angles = np.linspace(-180, 180, 91)
from scipy.spatial.transform import Rotation

turned = so3ntk.concatenate([so3ntk.rotate(g, Rotation.from_euler("z", angle, degrees=True)) for angle in angles])
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), constrained_layout=True)
mlp = {
    1: (so3ntk.Flatten(), so3ntk.Dense()),
    2: (so3ntk.Flatten(), so3ntk.Dense(), so3ntk.Relu(), so3ntk.Dense()),
    3: (so3ntk.Flatten(), so3ntk.Dense(), so3ntk.Relu(), so3ntk.Dense(), so3ntk.Relu(), so3ntk.Dense()),
}
for depth, layers in mlp.items():
    along = np.asarray(so3ntk.serial(*layers).kernel_fn(f, turned, "nngp"))[0]
    left.plot(angles, along / along.max(), label=("linear", "one ReLU", "two ReLU")[depth - 1])
left.set(
    xlabel="turn of f' about the vertical [degrees]", ylabel="$K_r(f, f')$ / its maximum", xticks=range(-180, 181, 90)
)
left.legend(frameon=False)
net = so3ntk.serial(so3ntk.Lift(), so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense())
pooled = np.asarray(net.kernel_fn(f, turned, "nngp"))[0]
one = np.asarray(so3ntk.serial(*mlp[2]).kernel_fn(f, turned, "nngp"))[0]
right.plot(angles, one, "C1", label="one ReLU, at this turn")
right.plot(angles, pooled, "k", label="its mean over all turns")
right.set(xlabel="turn of f' about the vertical [degrees]", ylim=(0, None), xticks=range(-180, 181, 90))
right.legend(frameon=False)

# %% [markdown]
# *Left: the field $K_r$ after zero, one and two nonlinearities. Right: pooling replaces it by its mean over all rotations, which no longer depends on how f'
# was turned.*
#
# This also says what symmetry is worth. The pooled kernel is the mean of an ordinary network's kernel over all turned copies of one input. So an infinitely
# wide equivariant network is an infinitely wide ordinary one **trained on all turned copies**, at the price of one.
# [`so3ntk.augmented`][so3ntk.augmented] takes such means over a finite group of motions for any kernel.
#
# ## Outputs that turn along
#
# A dipole is a vector: turn the molecule and it turns. Instead of the plain mean one takes the mean of $K_r$ times the rotation matrix of
# $r$ itself. The kernel of two inputs is then a 3 × 3 block (in general $2l + 1$ rows), and predictions turn with the input, exactly. The layer is
# [`IrrepPool(l)`][so3ntk.IrrepPool], and an *irrep* is no more than this: one of the ways in which a set of numbers can turn along. $l = 0$: a number that does not
# change; $l = 1$: a vector; $l = 2$: the five numbers of a symmetric traceless tensor.
#
# ## Filters that see a part
#
# So far each filter sees the whole sphere, and $K_r$ is one number for each $r$. With filters on caps (`Lift(support=0.8)`, in radians) the kernel also
# depends on where the filter sits, $K_r(x)$, and a layer averages it over the cap about $x$. Caps act on each degree of a harmonic expansion
# by a known factor, so that this is a product, degree by degree:

# %% tags=["hide"]
from scipy.special import eval_legendre

figure, ax = plt.subplots(figsize=(5, 3), constrained_layout=True)
degrees = np.arange(16)
for half in (0.3, 0.8, 1.6):
    c = np.cos(half)
    factor = [1.0] + [
        (eval_legendre(l - 1, c) - eval_legendre(l + 1, c)) / ((2 * l + 1) * (1 - c))
        for l in degrees[1:]  # noqa: E741
    ]
    ax.plot(degrees, factor, "o-", ms=3, label=f"cap of {half} rad")
ax.axhline(0, color="gray", lw=0.6)
ax.set(xlabel="degree l", ylabel="factor of a cap average")
ax.legend(frameon=False)

# %% [markdown]
# ## The same on images
#
# [`planar`](reference/images.md) has images in place of spheres, and shifts with quarter turns (C4, or D4 with reflections) in place of rotations. There the motions are finitely many, and
# no quadrature is needed: kernels are exact to rounding. C1 has shifts alone, which is the ordinary convolutional network.
#
# ## What is approximate
#
# Rotations are a continuum, so the mean over $r$ is a quadrature: a grid of rotations chosen from the signals' bandlimit, the layers and a tolerance. `net.quadrature_error(x)` says
# what it leaves, and `net.calibrate(x)` finds the smallest grid that is good enough for your signals. For networks whose nonlinearity is a polynomial
# (`Products`, `Monomial`) a finite grid is exact.
#
# ## Words
#
# | word | meaning |
# |---|---|
# | signal | a function on the sphere, or an image; with channels |
# | bandlimit L | degrees below L are kept: L² numbers for each channel |
# | relative motion r | the turn between two copies |
# | lift | the first layer: from a signal to its copies |
# | pool | the mean over the copies: invariance |
# | irrep l | a way to turn along: number, vector, tensor |
# | field | $K_r$ as a function of r, before pooling |
# | Gram matrix | kernels of all pairs of inputs |
