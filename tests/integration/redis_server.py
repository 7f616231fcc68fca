# SPDX-License-Identifier: ISC
"""A private redis-server with a password, for one test; over TCP and a socket in its directory."""
import os
import subprocess

import pytest

from bulkhead import free_port, wait_for


class Redis:
    DB = 2

    def __init__(self, directory, password="sesame"):
        self.port, self.dir, self.password = free_port(), directory, password
        self.url = "redis://:%s@127.0.0.1:%d/%d" % (password, self.port, self.DB)
        self.start()

    def start(self):
        self.proc = subprocess.Popen(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.dir, "--save", "",
                                      "--unixsocket", self.dir + "/redis.sock", "--unixsocketperm", "777", "--requirepass", self.password,
                                      "--enable-debug-command", "yes"], stdout=subprocess.DEVNULL)
        wait_for(lambda: "PONG" in self.cli("PING"), 20)

    def cli(self, *words, input=None):
        return subprocess.run(["redis-cli", "-p", str(self.port), "-a", self.password, "--no-auth-warning", "-n", str(self.DB), *words],
                              input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode("latin-1")

    def keys(self, pattern):
        return self.cli("KEYS", pattern).split()

    def stop(self):
        self.proc.kill()
        self.proc.wait(10)


@pytest.fixture
def redis(tmp_path, request):
    """Its password is the test module's REDIS_PASSWORD, if it has one."""
    os.chmod(tmp_path, 0o755)
    r = Redis(str(tmp_path), getattr(request.module, "REDIS_PASSWORD", "sesame"))
    yield r
    r.stop()
