# SPDX-License-Identifier: ISC
import os
import shutil

import pytest

from bulkhead import BIN, Instance, Sink, sanitizer_reports


def pytest_configure(config):
    config.addinivalue_line("markers", "xdist_group(name): tests that run one after the other in one process, where several run at a time")
    if not os.path.exists(BIN):
        raise pytest.UsageError("%s is missing: run make first" % BIN)


def pytest_runtest_logreport(report):
    """The ids of what failed, one a line, for who wants to run these once more; without the group that the plugin adds to them."""
    path = os.environ.get("BULKHEAD_FAILED")
    if report.failed and path and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(path, "a") as f:
            f.write((report.nodeid.rsplit("@", 1)[0] if hasattr(report, "node") else report.nodeid) + "\n")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A file's scenarios share its fixtures, and so stay together; all that start a server in a root of tests/peers share that root."""
    def group(item):
        uses = any(getattr(v, "__module__", "") == "peers" for v in vars(item.module).values())
        return "peers" if uses else item.module.__name__
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: group(item) != "peers")   # the longest first


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and call.when == "call":
        for value in item.funcargs.values():
            for i in value.made if isinstance(value, Factory) else [value] if isinstance(value, Instance) else []:
                report.sections.append(("log of " + i.dir, i.logs()))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown():
    yield
    if sanitizer_reports:
        text = "\n".join(sanitizer_reports)
        sanitizer_reports.clear()
        pytest.fail("a sanitizer reports:\n" + text, pytrace=False)


class Factory:
    def __init__(self):
        self.made = []

    def __call__(self, **kw):
        i = Instance(**kw)
        self.made.append(i)
        return i.start()


@pytest.fixture
def bulkhead():
    """Makes started instances: bulkhead(main=..., routers=...)."""
    f = Factory()
    yield f
    for i in f.made:
        i.destroy()


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


@pytest.fixture
def tmpfs(tmp_path):
    """A small file system of its own, for running full."""
    import subprocess
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    d = tmp_path / "small"
    d.mkdir()

    mounted = []

    def mount(size):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", str(d)], check=True)
        mounted.append(d)
        return str(d)
    yield mount
    for m in mounted:
        subprocess.run(["umount", "-l", str(m)], check=False)
    shutil.rmtree(d, ignore_errors=True)
