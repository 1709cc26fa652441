"""The commands of `luigi --module pipeline`: `FullRun`, single stages, and commands such as `Plan`.

Importing this package also sets the Luigi settings that the commands rely on, in any current folder. Values from a
`luigi.cfg` take precedence.
"""

import sys

from fse.runtime import platforms

if not sys.platform.startswith("linux"):  # before the modules below, which import fcntl
    platforms.require_linux()

from pipeline import defaults
from tasks.commands.accept import Accept
from tasks.commands.clean import Clean
from tasks.commands.lineage import Lineage
from tasks.commands.plan import Plan, ShowConfig
from tasks.commands.verify import Verify
from tasks.nightly.commands import AcceptBaseline, Bisect, ExportHistory
from tasks.nightly.regression import NightlyRegression
from tasks.stages.data import AlignCrop, ConvertTFRecord, Download
from tasks.stages.full_run import FullRun
from tasks.stages.results import Evaluate, Export, Report
from tasks.stages.sweep import Sweep
from tasks.stages.training import Train

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
