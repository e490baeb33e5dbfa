# %% [markdown]
# # Large matrices on a cluster
#
# A Gram matrix of 10,000 inputs takes minutes to hours, and things end before they are done: a queue's time limit, a power cut. Here is how runs survive that, on this machine in
# small. Install: `pip install -e '.[cluster]'`.
#
# ## What will it take?

# %%
import numpy as np
import so3ntk

rng = np.random.default_rng(0)
x = so3ntk.SphereSignal(rng.normal(size=(600, 16, 2)).astype(np.float32), bandlimit=4)
net = so3ntk.serial(so3ntk.Lift(), so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense())
print("pairs of 600 inputs:", f"{so3ntk.estimate(net, x, seconds=0.5).pairs:,}")

# %% [markdown]
# `print(so3ntk.estimate(net, x))` also says memory and time, by a measurement of a second.
#
# ## A store
#
# With `store=` each tile is written when it is done. Whatever ends the process, the same call computes what is missing, with the same bits. Two processes
# can share the work: here the first of two, and then what it left.

# %%
so3ntk.gram(net, x, store="run.zarr", tile=150, share=(0, 2), progress=False)
partial = so3ntk.open_gram("run.zarr")
print("complete:", partial.complete)
g = so3ntk.gram(net, x, store="run.zarr", tile=150, progress=False)  # the same call, without a share: the rest
print("complete:", g.complete, " symmetric to the bit:", bool(np.array_equal(g[:], g[:].T)))

# %% [markdown]
# A store of another network or of other data is refused, with what differs:

# %%
try:
    so3ntk.gram(net, x[:300], store="run.zarr", progress=False)
except so3ntk.StoreMismatchError as error:
    print(str(error)[:300])

# %% [markdown]
# ## In a queue
#
# A job array in which each task takes every n-th tile; a killed task is simply queued again:
#
# ```bash
# #SBATCH --array=0-15 --gres=gpu:1 --time=04:00:00 --requeue
# so3ntk gram --data molecules.extxyz --store run.zarr --rank $SLURM_ARRAY_TASK_ID --world 16
# ```
#
# With dask, any `Client` distributes the tiles; workers may come and go. On this machine, with two threads:

# %%
from dask.distributed import Client

with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
    h = so3ntk.gram(net, x, store="dask.zarr", tile=150, client=client, progress=False)
    print("the same bits:", bool(np.array_equal(h[:], g[:])))

# %% [markdown]
# ## Solve from the store
#
# Cholesky where the matrix fits the memory, else conjugate gradients that read the store once a step, or a blocked Cholesky on disk. The choice is made by size and written to the log.

# %%
y = x.to_samples("dh").max(axis=(1, 2)).sum(axis=-1)  # the largest values on the sphere, of both channels
for method in ("cholesky", "cg", "nystrom"):
    solution = so3ntk.solve(g, y, ridge=1e-3, method=method, intercept=True)
    print(f"{method:<9} largest residual of the targets {np.abs(solution.residuals).max():.1e}")

# %% [markdown]
# ## Or never compute it
#
# Regression on many inputs needs no full matrix: functions spanned by a few *inducing* inputs cost N·m pairs in place of N²/2.

# %%
model = so3ntk.InducingRegressor(net, inducing=150, progress=False).fit(x[:500], y[:500])
print(
    f"from 150 inducing inputs: off by {np.abs(model.predict(x[500:]) - y[500:]).mean() / y.std():.3f} standard deviations"
)

# %% [markdown]
# More: [clusters](../clusters.md), [solvers](../solvers.md), [inducing inputs](../inducing.md), and [what 10⁴ to 10⁶ molecules cost](../scaling.md).
