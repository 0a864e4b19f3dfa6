"""MakeHuman assets, worn: clothes, shoes, hats and hair (.mhclo), and photographic skins (.mhmat)."""

from render.people.makehuman.catalog import Catalog, open_catalog

__all__ = ["Catalog", "open_catalog"]
