"""What pyproject.toml cannot say: a wheel has the folders boards/ and firmware/ inside the package, as hil/shipped/."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("boards", "firmware")


class BuildWithData(build_py):
    """`hil.resources` reads hil/shipped/ where it exists, and the folders of the checkout otherwise."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "hil" / "shipped"
        shutil.rmtree(target, ignore_errors=True)  # what an earlier build left of files that are gone
        for name in SHIPPED:
            shutil.copytree(Path(__file__).with_name(name), target / name)


setup(cmdclass={"build_py": BuildWithData})
