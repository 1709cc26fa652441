"""What a person names on the command line: `luigi --module pipeline FullRun`, a single stage, or a command as `Plan`.

Importing this package also gives Luigi the settings that these commands need, wherever they are started and whatever
`luigi.cfg` is there; a value that a `luigi.cfg` does set wins.
"""

from pipeline import defaults
from tasks.commands.housekeeping import Accept, Clean, Lineage, Verify
from tasks.commands.plan import Plan, ShowConfig
from tasks.nightly.commands import AcceptBaseline, Bisect, ExportHistory, NightlyRegression
from tasks.stages.pipeline import AlignCrop, ConvertTFRecord, Download, Evaluate, Export, FullRun, Report, Train
from tasks.stages.sweep import Sweep

defaults.install()

__all__ = [
    "Accept",
    "AcceptBaseline",
    "AlignCrop",
    "Bisect",
    "Clean",
    "ConvertTFRecord",
    "Download",
    "Evaluate",
    "Export",
    "ExportHistory",
    "FullRun",
    "Lineage",
    "NightlyRegression",
    "Plan",
    "Report",
    "ShowConfig",
    "Sweep",
    "Train",
    "Verify",
]
