"""Roto-translations C4 x Z^2 acting on images: the second geometry of so3ntk. Nothing is implemented here yet."""
