"""What stands in for pip where the packages are there already: ``pip install … CHECKOUT`` puts the project
into the environment.

It is carried out on a machine, as the module ``pip`` of a new environment.
"""

import shutil
import sys
import sysconfig
from pathlib import Path

COMMAND = f"#!{sys.executable}\nfrom scheduler.cli import main\nmain()\n"

project = Path(sys.argv[-1])
if project.is_dir():  # otherwise it is the file that names the packages
    shutil.copytree(project / "scheduler", Path(sysconfig.get_path("purelib")) / "scheduler")
    command = Path(sys.prefix) / "bin" / "scheduler"
    command.write_text(COMMAND)
    command.chmod(0o755)
