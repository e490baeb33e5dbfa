# %% [markdown]
# # Images, and histology
#
# A digit has an up. A piece of tissue under the microscope has none: a classifier that must learn every orientation from examples wastes most of them. `planar` has
# kernels of convolutional networks that are equivariant under shifts and quarter turns. Install: `pip install -e '.[images]'`.
#
# ## Digits, turned at test time
#
# Training digits are upright, test digits turned by random quarter turns. C1 is the ordinary CNN, C4 has quarter turns, D4 reflections, too.

# %%
import planar
import so3ntk

train, test = planar.datasets.stratified_split(planar.datasets.load_digits(), 80, 150, seed=0)
turned = planar.datasets.quarter_turns(test, seed=0)


def network(group):
    return so3ntk.serial(
        planar.Lift((3, 3), padding="SAME", group=group), so3ntk.Relu(), planar.GroupConv((3, 3), padding="SAME"),
        so3ntk.Relu(), planar.GroupPool(), so3ntk.Dense(),
    )  # fmt: skip


models = {}
for group in ("C1", "C4"):
    models[group] = so3ntk.KernelClassifier(network(group), progress=False).fit(train.images, train.labels)
    upright, moved = (100 * models[group].score(part.images, part.labels) for part in (test, turned))
    print(f"{group}: {upright:.0f} % of upright digits, {moved:.0f} % of turned ones")

# %% tags=["hide"]
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 8, figsize=(8, 1.6), constrained_layout=True)
for ax, image, said, plain in zip(
    axes, turned.images, models["C4"].predict(turned.images[:8]), models["C1"].predict(turned.images[:8]), strict=False
):
    ax.imshow(image[..., 0], cmap="gray_r")
    ax.axis("off")
    ax.set_title(f"C4: {said}\nCNN: {plain}", fontsize=8)

# %% [markdown]
# The C4 kernel says the same of a digit and of its turned copy, to rounding. These kernels have no quadrature: motions of a pixel grid are finitely many.

# %%
import numpy as np

k = network("C4").kernel_fn(test.images[:3], np.rot90(test.images[:3], axes=(1, 2)), "ntk")
print(f"{np.abs(k / network('C4').kernel_fn(test.images[:3], None, 'ntk') - 1).max():.0e}")

# %% [markdown]
# ## Equivariance is augmentation
#
# An infinitely wide C4 network *is* an infinitely wide CNN that was trained on all four turned copies. Take the mean of the CNN's kernel over the four turns:

# %%
mean = so3ntk.augmented(network("C1").kernel_fn, planar.motions("C4"))
a = mean(test.images[:3], test.images[:3], "ntk")
b = network("C4").kernel_fn(test.images[:3], None, "ntk")
print(f"largest relative difference {np.abs(a / b - 1).max():.0e}")

# %% [markdown]
# ## Tissue tiles
#
# `planar.datasets.load_images` reads npz files (arrays `images` and `labels`), MNIST's files, and folders with a sub-folder of tiles for each class, as NCT-CRC-HE-100K has.
# `shrink` averages tiles down, since a pair of images costs pixels⁴ with local filters:
#
# ```bash
# python examples/histology.py --data tiles.npz --pixels 16 --sizes 25 50 100
# ```
#
# That example compares the plain CNN with C4 on test tiles as they are. It is for development only: its accuracies have no clinical meaning.
# Global filters (`planar.Lift(None, group="C4")`) cost a hundredth. What more images would bring: [spectra](spectra.md).
