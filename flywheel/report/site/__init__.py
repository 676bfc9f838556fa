"""The live site: pages that the model server renders from the ledger when they are asked for."""

from flywheel.report.site.routes import site

__all__ = ["site"]
