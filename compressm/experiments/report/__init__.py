"""What a person sees of runs: progress bars, a table, pictures, a page."""

from compressm.experiments.report.html import save_report
from compressm.experiments.report.pictures import picture
from compressm.experiments.report.progress import Watch
from compressm.experiments.report.results import table

__all__ = ["Watch", "picture", "save_report", "table"]
