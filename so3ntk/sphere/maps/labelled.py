"""Maps that bring their coordinates along: xarray's DataArray and pyshtools' SHGrid, without importing either."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Names, in lower case, standard names and units by which conventions for climate files mark coordinates.
NAMES = {"lat": {"lat", "lats", "latitude", "latitudes", "nav_lat"}, "lon": {"lon", "lons", "long", "longitude", "longitudes", "nav_lon"}}  # fmt: skip
STANDARD = {"lat": "latitude", "lon": "longitude"}
UNITS = {
    "lat": {"degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen"},
    "lon": {"degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee"},
}
#: Dimensions that are channels; all others but those of the coordinates are the batch.
CHANNELS = {"channel", "channels", "variable"}
#: How standard names of a vector's components begin.
VECTORS = ("eastward_", "northward_", "x_", "y_", "grid_eastward_", "grid_northward_")


def unlabelled(values: Any, lat: Any, lon: Any, mask: Any, weights: Any, where: str) -> tuple[Any, Any, Any, Any, Any]:
    """Values, lat, lon, mask and weights as arrays: values (N, lat, lon, C), or (N, points, C), if they had labels."""
    if hasattr(values, "data_vars"):
        raise TypeError(
            f'{where}: expected one variable, got a Dataset. Pass dataset["name"], or variables as channels: '
            "dataset[[...]].to_array()."
        )
    if all(hasattr(values, name) for name in ("lats", "lons", "to_array")):
        _refuse_coordinates(lat, lon, where)
        return np.asarray(values.to_array())[None, ..., None], values.lats(), values.lons(), mask, weights
    if not all(hasattr(values, name) for name in ("dims", "coords", "transpose")):
        return values, lat, lon, mask, weights
    _refuse_vectors(values, where)
    names = [_coordinate(values, given, axis, where) for given, axis in ((lat, "lat"), (lon, "lon"))]
    lat, lon = (values.coords[name] for name in names)
    spatial = list(dict.fromkeys([*lat.dims, *lon.dims]))
    channels = [name for name in values.dims if name in CHANNELS]
    if len(channels) > 1:
        raise ValueError(f"{where}: expected one dimension of channels, got {channels}. Stack or rename one of them.")
    order = [*(name for name in values.dims if name not in (*spatial, *channels)), *spatial, *channels]
    size = [values.sizes[name] for name in spatial]
    shape = (-1, *size, values.sizes[channels[0]] if channels else 1)

    def array(labelled: Any) -> Any:
        if labelled is None or not hasattr(labelled, "dims"):
            return labelled
        if set(labelled.dims) == set(spatial):
            return labelled.transpose(*spatial).values
        return labelled.broadcast_like(values).transpose(*order).values.reshape(shape)

    flat = values.transpose(*order).values.reshape(shape)
    return flat, _degrees(lat), _degrees(lon), array(mask), array(weights)


def _refuse_coordinates(lat: Any, lon: Any, where: str) -> None:
    if lat is not None or lon is not None:
        raise TypeError(f"{where}: the values have coordinates of their own: leave lat and lon away.")


def _refuse_vectors(values: Any, where: str) -> None:
    name = str(values.attrs.get("standard_name", ""))
    if name.startswith(VECTORS):
        raise ValueError(
            f"{where}: {name} is a component of a vector field, which mixes with the other one when the sphere turns: signals "
            "are scalars. Pass what does not depend on axes: the divergence and the vorticity as two channels, or the length."
        )


def _coordinate(values: Any, given: Any, axis: str, where: str) -> Any:
    """The name of the coordinate that is the latitude or the longitude."""
    if isinstance(given, str):
        if given not in values.coords:
            raise ValueError(
                f"{where}: there is no coordinate {given!r} for {axis}; there are {sorted(map(str, values.coords))}."
            )
        return given
    if given is not None:
        raise TypeError(
            f'{where}: the values have coordinates of their own: leave {axis} away, name a coordinate, {axis}="name", or pass '
            "values.values."
        )
    found = [name for name, coordinate in values.coords.items() if _is(name, coordinate, axis)]
    if len(found) != 1:
        what = (
            f"several coordinates look like the {STANDARD[axis]}"
            if found
            else f"no coordinate looks like the {STANDARD[axis]}"
        )
        raise ValueError(
            f'{where}: {what} (of {sorted(map(str, values.coords))}). Name one: {axis}="name", or pass values.values, with lat '
            "and lon in degrees unless these are HEALPix's pixels."
        )
    return found[0]


def _is(name: Any, coordinate: Any, axis: str) -> bool:
    return (
        str(name).lower() in NAMES[axis]
        or coordinate.attrs.get("standard_name") == STANDARD[axis]
        or str(coordinate.attrs.get("units", "")).lower() in UNITS[axis]
    )


def _degrees(coordinate: Any) -> np.ndarray:
    unit = str(coordinate.attrs.get("units", "")).lower()
    return np.degrees(coordinate.values) if unit in ("radian", "radians", "rad") else coordinate.values
