# SPDX-License-Identifier: ISC
"""A program that daemons run, in a folder that anybody may write to: what it does, what it left."""
import os
import shutil
import tempfile

from bulkhead import read


class Program:
    """The program NAME has DIR in its text for its folder; it sources DIR/script, and leaves lines in DIR/runs."""
    def __init__(self, name, text):
        self.dir = tempfile.mkdtemp()
        os.chmod(self.dir, 0o777)
        self.write(name, text.replace("DIR", self.dir), 0o755)

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)

    def does(self, text):
        self.write("script", text + "\n")

    def read(self, name):
        return read(os.path.join(self.dir, name))

    def runs(self):
        return self.read("runs").splitlines()

    def remove(self):
        shutil.rmtree(self.dir)
