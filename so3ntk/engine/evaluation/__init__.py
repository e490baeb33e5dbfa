"""From layers to the kernels of pairs: towers that collapse, whole fields, motion by motion, tile by tile."""
